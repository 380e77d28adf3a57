"""Planned, announced and actual times of sweeps: `python -m benchmarks.plan_times`.

Planned: what `--plan` says of a sweep before anything is stored. Actual: the seconds that its stages took, of the
ledger of a results folder. Without arguments: of all shipped results, base policies left out, since they are shipped.
With `--replay FILE --set store=...`: of a finished sweep in a store, what its ETA announced at a quarter and at each
later tenth of its time, by the times at which its stages were committed. Both write benchmarks/results/plan_times.json,
from which docs/performance.md is made (`python -m benchmarks.page`).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import sides
from scaling.engine.eta import Calibration, seconds_to_go, spoken
from scaling.engine.store import Store
from scaling.kinds import kind_of
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.costs import costs, seconds_of
from scaling.stage import Stage

# The usual rate of small policies was fitted to these; the others are held out.
FITTED = ("quickstart", "model_scaling", "paper_scaling", "paper_controls", "paper_traces")
SHIPPED = Path("results/shipped")
RESULT = sides.RESULTS / "plan_times.json"


def planned_seconds(file: Path) -> float:
    """Of one worker, from an empty store, without base policies."""
    sweep = load_sweep(file, [])
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
        part = "fitted" if folder.name in FITTED else "held out"
        rows.append((folder.name, part, planned_seconds(Path(f"sweeps/{folder.name}.yaml")), taken))
    return rows


def announced(file: Path, overrides: Sequence[str], slots: int) -> list[tuple[float, float, float]]:
    """Share of the time gone by, and seconds to go as announced then and as they were."""
    sweep = load_sweep(file, overrides)
    store = Store(sweep.store)
    final = plan(sweep, store.numbers)
    stages = [stage for stage in final.stages if not kind_of(stage.kind).makes_base]
    records = {stage: record for stage in stages if (record := store.record(stage)) is not None}
    if len(records) < len(stages):
        raise SystemExit(f"{file}: {len(stages) - len(records)} stages are not stored; run the sweep first.")
    ends = {stage: float(record["committed_at"]) for stage, record in records.items()}
    begins = {stage: ends[stage] - float(record["wall_seconds"]) for stage, record in records.items()}
    first, last = min(begins.values()), max(ends.values())
    found = []
    for tenth in range(3, 10):
        now = first + (0.25 if tenth == 3 else tenth / 10) * (last - first)
        done = {stage.digest for stage, end in ends.items() if end <= now}

        def numbers(stage: Stage, done: set[str] = done) -> dict[str, float] | None:
            return store.numbers(stage) if stage.digest in done else None

        current = plan(sweep, numbers)
        work = costs(current.stages)
        calibration = Calibration(lambda stage, work=work: seconds_of(stage, work[stage], {}, sweep.resources))
        for stage in current.stages:
            if stage.digest in done:
                calibration.observe(stage, float(records[stage]["wall_seconds"]))
        left = [one for one in current.stages if one.digest not in done and not kind_of(one.kind).makes_base]
        elapsed = {stage: now - begins[stage] for stage in left if stage in begins and begins[stage] < now}
        found.append(((now - first) / (last - first), seconds_to_go(calibration, left, elapsed, slots), last - now))
    return found


def tables(found: Mapping[str, Any]) -> str:
    """The tables of docs/performance.md."""
    lines = ["| sweep | rate | planned | taken | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {part} | {spoken(planned)} | {spoken(taken)} | {planned / taken:.2f} |"
        for name, part, planned, taken in found["shipped"]
    ]
    lines += ["", "| sweep | time gone by | announced to go | actual to go | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {share:.0%} | {spoken(said)} | {spoken(actual)} | {said / actual:.2f} |"
        for name, rows in found["replays"].items()
        for share, said, actual in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_times", description=__doc__.split("\n")[0])
    parser.add_argument("--replay", type=Path, metavar="FILE", help="a finished sweep, such as sweeps/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    parser.add_argument("--slots", type=int, default=2, help="workers that ran at once (%(default)s)")
    parser.add_argument("--name", help="of the replay in the table; the file's by default")
    arguments = parser.parse_args(argv)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {"shipped": [], "replays": {}}
    if arguments.replay is not None:
        found = announced(arguments.replay, arguments.set, arguments.slots)
        known["replays"][arguments.name or arguments.replay.stem] = found
    else:
        known["shipped"] = shipped_rows()
    RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(tables(known))


if __name__ == "__main__":
    main()
