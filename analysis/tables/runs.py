"""From the store to tables: one tidy row per run, its 0/1 outcomes, what selection chose, and where it all came from.

In: a sweep, its plan and its store; only records and outcomes are read, never logs or names. Out: `Tables`. A run that
is missing or failed has a row that says so, and no number. docs/results.md explains every column.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from analysis.tables.ledger import costs_of_run
from analysis.tables.selection import SELECTION, left_out_rows
from scaling.config.algorithms import algorithm_of
from scaling.config.sweep import Sweep
from scaling.engine.changed import changed
from scaling.engine.store import Store
from scaling.kinds import kind_of
from scaling.planning.grid import axes
from scaling.planning.plan import Candidate, Plan, Run
from scaling.planning.recipes import base_evaluation, trained_policy
from scaling.stage import in_order

_TEST_SET = "test set "  # before the name of a further one, at the end of a panel's
CHOICES = (
    *("algorithm", "data_size", "at", "settings", "num_runs", "validation_error", "standard_error"),
    *("chosen", "at_edge"),
)
DigestOf = Callable[[Run], str]  # what tells two runs of an algorithm apart, regardless of their axes


@dataclass(frozen=True)
class Tables:
    """Everything a report needs from the store."""

    runs: pd.DataFrame  # one row per run
    outcomes: Mapping[str, pd.DataFrame]  # panel -> algorithm, data_size, seed, problem, wrong
    base_errors: Mapping[str, float]  # panel -> error of the base policy on the test problems
    choices: pd.DataFrame  # one row per candidate of selection
    selection: pd.DataFrame  # one row per cell and selection seed: what the other seeds would have chosen
    provenance: Mapping[str, list[str]]  # of all records: commits, versions, hosts, devices, and other sources' results
    num_missing: int
    num_failed: int


def tabulate(sweep: Sweep, plan: Plan, store: Store) -> Tables:
    """Read what the store holds of a plan."""
    store.look_up_all([stage for run in (*plan.runs, *plan.search_runs) for stage in run.targets])
    panel_keys, label_keys = panel_axes(sweep, plan), label_axes(sweep, plan)
    rows, selection, seen = [], list[dict[str, object]](), set()
    outcomes: dict[str, list[tuple[str, int, int, pa.Table]]] = {}
    for name, run, is_waiting in _on_each_set(plan):
        panel = _panel_on(name, panel_of(run, panel_keys))
        label = label_of(run, label_keys[run.cell.algorithm])
        if (panel, label, run.cell.data_size, run.seed) in seen:
            continue  # an axis that does not concern the algorithm repeats its runs
        seen.add((panel, label, run.cell.data_size, run.seed))
        path = None if is_waiting else store.checked(run.stage)  # first: its row counts a damaged run as missing
        rows.append({"panel": panel, "algorithm": label, **_row(run, sweep, store, is_waiting)})
        if run.seed == sweep.seeds[0] and not is_waiting:
            selection += [{"panel": panel, "algorithm": label, **row} for row in _left_out(run, store)]
        if path is not None:
            table = parquet.read_table(path / "outcomes.parquet", columns=["problem", "wrong"])
            outcomes.setdefault(panel, []).append((label, run.cell.data_size, run.seed, table))
    runs = pd.DataFrame(rows)
    return Tables(
        runs=runs,
        outcomes={panel: _long(parts) for panel, parts in outcomes.items()},
        base_errors=_base_errors(plan, store, panel_keys),
        choices=choices_table(plan, lambda one: [_error(run, store) for run in one.runs]),
        selection=pd.DataFrame(selection, columns=list(SELECTION)),
        provenance=provenance_of(plan, store),
        num_missing=int(runs["status"].isin(["missing", "waiting"]).sum()),
        num_failed=int((runs["status"] == "failed").sum()),
    )


def _on_each_set(plan: Plan) -> list[tuple[str, Run, bool]]:
    """(test set, run, whether its settings are open): every run on the study's test problems, then on further sets."""
    waiting = set(plan.waiting_digests)
    found = [(name, one, run.stage.digest in waiting) for run in plan.runs for name, one in run.on_each_set().items()]
    order = list(dict.fromkeys(name for name, _, _ in found))
    return sorted(found, key=lambda item: order.index(item[0]))


def _panel_on(test_set: str, panel: str) -> str:
    """The panel's name on a further test set."""
    return ", ".join(filter(None, (panel, f"{_TEST_SET}{test_set}" if test_set else "")))


def is_further(panel: str) -> bool:
    """Whether a panel has runs on a further test set, which are among those on the study's own."""
    return panel.rpartition(", ")[2].startswith(_TEST_SET)


def of_errors(run: Run) -> str:
    """The digest of a run's evaluation."""
    return run.stage.digest


def of_critical_steps(run: Run) -> str:
    """The digest of what measured a run's critical steps; of its evaluation where nothing did."""
    return (run.measured or run.stage).digest


def panel_axes(sweep: Sweep, plan: Plan, of: DigestOf = of_errors) -> tuple[str, ...]:
    """The axes that change the reference itself, such as policy.size: each of their values is a study of its own."""
    return _relevant(sweep, plan, sweep.analysis.reference, of)


def label_axes(sweep: Sweep, plan: Plan, of: DigestOf = of_errors) -> dict[str, tuple[str, ...]]:
    """Algorithm -> the axes that change it but not the reference, such as rft.max_positives: variants of it."""
    panel = panel_axes(sweep, plan, of)
    names = dict.fromkeys(run.cell.algorithm for run in plan.runs)
    return {name: tuple(key for key in _relevant(sweep, plan, name, of) if key not in panel) for name in names}


def panel_of(run: Run, keys: tuple[str, ...]) -> str:
    """The name of a run's panel: the values of the panel axes; empty if there are none."""
    return ", ".join(f"{key}={run.axis_values[key]}" for key in keys)


def label_of(run: Run, keys: tuple[str, ...]) -> str:
    """A run's algorithm with the values of its own axes."""
    settings = [f"{key.rpartition('.')[2]}={run.axis_values[key]}" for key in keys]
    return ", ".join([run.cell.algorithm, *settings])


def names_without_use(sweep: Sweep, plan: Plan) -> list[str]:
    """A sentence for each name under analysis.compare and labels by which no run is called."""
    keys = label_axes(sweep, plan)
    names = list(dict.fromkeys(label_of(run, keys[run.cell.algorithm]) for run in plan.runs))
    parts = {part for name in names for part in name.split(", ")}
    compared = dict.fromkeys(name for pair in sweep.analysis.compare for name in pair)
    found = []
    for where, name in [*(("analysis.compare", one) for one in compared), *(("labels", one) for one in sweep.labels)]:
        is_used = any(one == name or one.startswith(f"{name},") for one in names)
        if not is_used and (where != "labels" or name not in parts):
            algorithm = name.partition(",")[0]
            of = [one for one in names if one.partition(",")[0] == algorithm] or names
            called = "; ".join(f"'{one}'" for one in of)
            found.append(f"{where} names {name!r}, by which no run is called, so it has no effect; there are {called}.")
    return found


def choices_table(plan: Plan, errors_of: Callable[[Candidate], Sequence[float]]) -> pd.DataFrame:
    """One row per candidate: its settings, its mean validation error with its noise, whether it was chosen.

    errors_of: a candidate's validation errors, one per selection seed.
    """
    rows, several = [], _several(choice.axis_values for choice in plan.choices)
    for choice in plan.choices:
        for candidate in choice.candidates:
            row = {
                "algorithm": choice.algorithm,
                "data_size": choice.data_size,
                "at": ", ".join(f"{key}={value}" for key, value in choice.axis_values.items() if key in several),
                "settings": _written(candidate),
                "num_runs": len(candidate.runs),
                "validation_error": candidate.error,
                "standard_error": None if candidate.error is None else _noise(candidate, errors_of(candidate)),
                "chosen": candidate is choice.chosen,
                "at_edge": candidate is choice.chosen and _is_at_edge(candidate.settings, choice.candidates),
            }
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(CHOICES))
    return table.sort_values(["algorithm", "data_size"], kind="stable", ignore_index=True)


def provenance_of(plan: Plan, store: Store) -> dict[str, list[str]]:
    """Distinct values over the records of every stage of the plan, sorted."""
    found: dict[str, set[str]] = {name: set() for name in ("commits", "python", "packages", "hosts", "devices")}
    for stage in plan.stages:
        record = store.record(stage)
        if record is None:
            continue
        origin = record["provenance"]
        if "commit" in origin:
            found["commits"].add(origin["commit"][:10] + (" with local changes" if origin["dirty"] else ""))
        found["python"].add(origin["python"])
        found["hosts"].add(origin["host"])
        found["packages"].update(f"{name} {version}" for name, version in origin["packages"].items())
        if "device" in origin:
            found["devices"].add(f"{origin['device']['count']} x {origin['device']['kind']}")
    found["sources"] = {change.line for change in changed(plan.stages, store)}
    return {name: sorted(values) for name, values in found.items() if values or name != "sources"}


def _left_out(run: Run, store: Store) -> list[dict[str, object]]:
    """What selection would have chosen for a run without each of its seeds; empty if it chose nothing."""
    if run.choice is None:
        return []
    candidates = run.choice.candidates
    errors = np.array([[_error(one, store) for one in candidate.runs] for candidate in candidates])
    record = store.record(candidates[0].runs[0].stage)
    assert record is not None  # of a choice that is made
    settings, seeds = [_written(one) for one in candidates], [one.seed for one in candidates[0].runs]
    rows = left_out_rows(settings, seeds, errors, record["numbers"]["num_problems"])
    return [{"data_size": run.cell.data_size, **row} for row in rows]


def _written(candidate: Candidate) -> str:
    return ", ".join(f"{key}={value}" for key, value in candidate.settings.items())


def _error(run: Run, store: Store) -> float:
    record = store.record(run.stage)
    assert record is not None  # of a candidate whose mean error is known
    return float(record["numbers"]["error"])


def _long(parts: Sequence[tuple[str, int, int, pa.Table]]) -> pd.DataFrame:
    """The outcomes of all runs in one long table. Joined in Arrow, which takes half the time that pandas needs."""
    labels, sizes, seeds, tables = zip(*parts, strict=True)
    counts = [table.num_rows for table in tables]
    columns = ("algorithm", labels), ("data_size", sizes), ("seed", seeds)
    run_of = pd.DataFrame({name: pd.Series(values).repeat(counts) for name, values in columns})
    joined = pa.concat_tables([table.replace_schema_metadata() for table in tables]).to_pandas()
    return pd.concat([run_of.reset_index(drop=True), joined], axis=1)


def _row(run: Run, sweep: Sweep, store: Store, is_waiting: bool) -> dict[str, object]:
    row: dict[str, object] = {"data_size": run.cell.data_size, "seed": run.seed}
    row |= {key: value for key, value in run.axis_values.items() if key not in ("algorithm", "data_size")}
    record = None if is_waiting else store.record(run.stage)
    if record is None:
        failed = [failure for stage in in_order([run.stage]) if (failure := store.failure(stage))]
        status = "waiting" if is_waiting and not failed else "failed" if failed else "missing"
        return row | {"status": status} | ({"failure": failed[0]["error"]} if failed else {})
    row |= {"status": "done"} | record["numbers"] | _settings(run, sweep)
    for stage in in_order([run.stage]):
        names = kind_of(stage.kind).numbers
        found = store.record(stage) if names else None
        row |= {name: found["numbers"][name] for name in names if name in found["numbers"]} if found else {}
    if run.cell.rounds > 1:
        row["rounds_without_data"] = _rounds_without_data(run, store)
    row |= costs_of_run(run, store)
    return row | {"stage": run.stage.name}


def _rounds_without_data(run: Run, store: Store) -> int:
    """How many of the run's rounds made no update and passed their policy on as it was."""
    rounds = (run.cell.model_copy(update={"rounds": count}) for count in range(1, run.cell.rounds + 1))
    trained = [store.record(trained_policy(cell, run.seed)) for cell in rounds]
    return sum(record["numbers"]["num_updates"] == 0 for record in trained if record is not None)


def _settings(run: Run, sweep: Sweep) -> dict[str, object]:
    """The settings that selection chose for this run: dotted key -> value."""
    if sweep.select is None:
        return {}
    cell = run.cell.model_dump()
    used = (*algorithm_of(run.cell.algorithm).ancestors, run.cell.algorithm)
    return {
        f"{algorithm}.{key}": cell[algorithm][key]
        for algorithm in used
        for key in sweep.select.candidates_of(algorithm)
    }


def _relevant(sweep: Sweep, plan: Plan, algorithm: str, of: DigestOf) -> tuple[str, ...]:
    """The extra axes along which the runs of the algorithm differ.

    This is decided from the first seed without waiting for choices, because a stand-in changes exactly when the real
    run does. In a list of grids, several axes may change together and never one alone. Then the first of them that
    tells runs apart is taken, until no two different runs look the same.
    """
    extra = [key for key in axes(sweep) if key not in ("algorithm", "data_size")]
    runs = [run for run in plan.runs if run.cell.algorithm == algorithm and run.seed == sweep.seeds[0]]
    found = [key for key in extra if _changes(runs, key, of)]
    while (alike := _mistakable(runs, found, of)) is not None:
        found.append(next(key for key in extra if len({repr(run.axis_values[key]) for run in alike}) > 1))
    return tuple(key for key in extra if key in found)


def _mistakable(runs: Iterable[Run], keys: Iterable[str], of: DigestOf) -> list[Run] | None:
    """Different runs that have the same size and the same values of keys."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr([run.cell.data_size, *(run.axis_values[key] for key in keys)]), []).append(run)
    return next((group for group in groups.values() if len(set(map(of, group))) > 1), None)


def _changes(runs: Iterable[Run], key: str, of: DigestOf) -> bool:
    digests: dict[str, set[str]] = {}
    values: dict[str, set[str]] = {}
    for run in runs:
        others = repr([(name, value) for name, value in run.axis_values.items() if name != key])
        digests.setdefault(others, set()).add(of(run))
        values.setdefault(others, set()).add(repr(run.axis_values[key]))
    return any(len(digests[others]) > 1 and len(values[others]) > 1 for others in digests)


def _base_errors(plan: Plan, store: Store, panel_keys: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for run in plan.runs:
        for test_set in (None, *run.cell.evaluation.sets):
            record = store.record(base_evaluation(run.cell, test_set))
            if record is not None:
                name = "" if test_set is None else test_set.name
                found[_panel_on(name, panel_of(run, panel_keys))] = record["numbers"]["error"]
    return found


def _several(values: Iterable[Mapping[str, object]]) -> set[str]:
    """The axes, without algorithm and data size, that have several values."""
    found: dict[str, set[str]] = {}
    for one in values:
        for key, value in one.items():
            found.setdefault(key, set()).add(repr(value))
    return {key for key, seen in found.items() if len(seen) > 1} - {"algorithm", "data_size"}


def _noise(candidate: Candidate, errors: Sequence[float]) -> float:
    """Standard error of a mean validation error: from the spread over seeds or, with one, from luck with problems."""
    if len(errors) > 1:
        return float(np.std(errors, ddof=1) / len(errors) ** 0.5)
    (error,) = errors
    return float((error * (1 - error) / candidate.runs[0].cell.problems.num_validation) ** 0.5)


def _is_at_edge(chosen: Mapping[str, object], candidates: Iterable[Candidate]) -> bool:
    """Whether a numeric setting was chosen at the end of its candidates, where a better one may lie beyond."""
    for key, value in chosen.items():
        tried = (item.settings[key] for item in candidates)
        values = sorted({setting for setting in tried if isinstance(setting, int | float)})
        if len(values) > 1 and value in (values[0], values[-1]):
            return True
    return False
