"""Planned, announced and actual times of sweeps: `python -m benchmarks.plan_times`.

Planned: what `--plan` says of a sweep before anything is stored. Actual: the seconds that its stages took, of the
ledger of a results folder. Without arguments: of all shipped results, base policies left out, since they are shipped.
With `--replay FILE --set store=...`: of a finished sweep, from an empty store, also what its ETA announced at a quarter
of its time and later, by the times at which its stages were committed. Both write benchmarks/results/plan_times.json,
from which docs/performance.md is made (`python -m benchmarks.page`).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import sides
from scaling.config.sweep import Sweep
from scaling.engine.eta import Calibration, seconds_to_go, spoken
from scaling.engine.store import Store
from scaling.kinds import kind_of
from scaling.planning.grid import narrowed
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.costs import costs, seconds_of

# The usual rate of small policies was fitted to these; the others are held out.
FITTED = ("quickstart", "model_scaling", "paper_scaling", "paper_controls", "paper_traces")
SHIPPED = Path("results/shipped")
RESULT = sides.RESULTS / "plan_times.json"


# Of a sweep's time, from a quarter on: when its ETA is asked.
SHARES = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def planned_seconds(sweep: Sweep) -> float:
    """Of one worker, from an empty store, without base policies."""
    work = costs(plan(sweep, lambda stage: None).stages)
    return sum(
        seconds_of(stage, item, {}, sweep.resources)
        for stage, item in work.items()
        if not kind_of(stage.kind).makes_base
    )


def shipped_rows() -> list[tuple[str, str, float, float]]:
    """Sweep, fitted or held out, seconds planned and taken."""
    rows = []
    for folder in sorted(SHIPPED.iterdir()):
        ledger = pd.read_csv(folder / "ledger.csv")
        taken = float(ledger.loc[ledger["part"] == "total", "wall_seconds"].sum())
        sweep = load_sweep(Path(f"sweeps/{folder.name}.yaml"), [])
        rows.append((folder.name, _part(folder.name), planned_seconds(sweep), taken))
    return rows


def replayed(sweep: Sweep, slots: int) -> dict[str, Any]:
    """Seconds planned and taken, and at each of `SHARES` the seconds to go as announced then and as they were.

    slots: workers that ran at once. Raises SystemExit where a stage is not stored.
    """
    store = Store(sweep.store)
    stages = [stage for stage in plan(sweep, store.numbers).stages if not kind_of(stage.kind).makes_base]
    records = {stage: record for stage in stages if (record := store.record(stage)) is not None}
    if len(records) < len(stages):
        raise SystemExit(f"{len(stages) - len(records)} stages are not stored; run the sweep first.")
    taken = {stage: float(record["wall_seconds"]) for stage, record in records.items()}
    ends = {stage: float(record["committed_at"]) for stage, record in records.items()}
    begins = {stage: end - taken[stage] for stage, end in ends.items()}
    first, last = min(begins.values()), max(ends.values())

    def announced(now: float) -> float:
        done = {stage.digest for stage, end in ends.items() if end <= now}
        current = plan(sweep, lambda stage: store.numbers(stage) if stage.digest in done else None)
        work = costs(current.stages)
        calibration = Calibration(lambda stage: seconds_of(stage, work[stage], {}, sweep.resources))
        for stage in current.stages:
            if stage.digest in done:
                calibration.observe(stage, taken[stage])
        left = [one for one in current.stages if one.digest not in done and not kind_of(one.kind).makes_base]
        elapsed = {stage: now - begins[stage] for stage in left if stage in begins and begins[stage] < now}
        return seconds_to_go(calibration, left, elapsed, slots)

    to_go = [(announced(now), last - now) for now in (first + share * (last - first) for share in SHARES)]
    return {"planned": planned_seconds(sweep), "taken": sum(taken.values()), "to_go": to_go}


def _part(name: str) -> str:
    return "fitted" if name in FITTED else "held out"


def tables(found: Mapping[str, Any]) -> str:
    """The tables of docs/performance.md."""
    lines = ["| sweep | rate | planned | taken | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {part} | {spoken(planned)} | {spoken(taken)} | {planned / taken:.2f} |"
        for name, part, planned, taken in found["shipped"]
    ]
    columns = ["sweep", "rate", "planned", "taken", "ratio", *(f"at {share:.0%}" for share in SHARES)]
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, row in found["replays"].items():
        cells = [name, _part(row["file"]), spoken(row["planned"]), spoken(row["taken"])]
        cells += [f"{row['planned'] / row['taken']:.2f}", *(f"{said / actual:.2f}" for said, actual in row["to_go"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_times", description=__doc__.split("\n")[0])
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a finished sweep, such as sweeps/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    parser.add_argument("--slots", type=int, default=2, help="workers that ran at once (%(default)s)")
    parser.add_argument("--name", help="of the replay in the table; the file's by default")
    arguments = parser.parse_args(argv)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {"shipped": [], "replays": {}}
    if arguments.replay is not None:
        sweep = load_sweep(arguments.replay, arguments.set)
        sweep = narrowed(sweep, arguments.only) if arguments.only else sweep
        name = arguments.replay.stem
        known["replays"][arguments.name or name] = {"file": name, **replayed(sweep, arguments.slots)}
    else:
        known["shipped"] = shipped_rows()
    RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(tables(known))


if __name__ == "__main__":
    main()
