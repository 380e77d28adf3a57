"""The cost ledger: FLOPs, samples, verifier calls and seconds of every algorithm, from the records of its stages.

In: a plan and its store. Out: costs of one run, and a table with a row for each algorithm and size, for the search of
its settings, for the base policy, and for the whole sweep, where a shared stage counts once. FLOPs are analytic
(scaling.model.flops); seconds are wall seconds of one worker. Samples count completions of policies; verifier calls
count these and the teacher's solutions. Both leave out the evaluation, and are missing where a record does not say.
"""

from collections.abc import Iterable

import pandas as pd

from scaling.engine.store import Store
from scaling.kinds import kind_of, loaded
from scaling.planning.plan import Plan, Run
from scaling.stage import Stage, in_order

FLOPS = ("training_flops", "generation_flops", "evaluation_flops")
COSTS = (*FLOPS, "samples", "verifier_calls", "wall_seconds")


def costs_of_run(run: Run, store: Store) -> dict[str, float]:
    """The cost of one run after the base policy: of its own stages and of those it shares with other runs."""
    return _sum([stage for stage in in_order([run.stage]) if not kind_of(stage.kind).makes_base], store)


def ledger(plan: Plan, store: Store) -> pd.DataFrame:
    """Columns: part (run, search, base, total), algorithm, data_size, num_runs, and costs: a run's mean, else a sum."""
    rows = []
    done = [run for run in plan.settled if store.record(run.stage)]
    order = list(dict.fromkeys(run.cell.algorithm for run in plan.runs))
    keys = {(run.cell.algorithm, run.cell.data_size) for run in done}
    for key in sorted(keys, key=lambda key: (order.index(key[0]), key[1])):
        own_runs = {run.stage.digest: run for run in done if (run.cell.algorithm, run.cell.data_size) == key}
        costs = [costs_of_run(run, store) for run in own_runs.values()]
        mean = {name: sum(cost[name] for cost in costs) / len(costs) for name in COSTS}
        rows.append({"part": "run", "algorithm": key[0], "data_size": key[1], "num_runs": len(own_runs), **mean})
    final = {stage.digest for stage in in_order(run.stage for run in done)}
    counted: set[str] = set()  # a search stage that two algorithms share counts for the first
    for algorithm in dict.fromkeys(choice.algorithm for choice in plan.choices):
        runs = [run for run in plan.search_runs if run.cell.algorithm == algorithm and store.record(run.stage)]
        stages = [stage for stage in in_order(run.stage for run in runs) if stage.digest not in counted | final]
        counted |= {stage.digest for stage in stages}
        own = _sum([stage for stage in stages if not kind_of(stage.kind).makes_base], store)
        rows.append({"part": "search", "algorithm": algorithm, "num_runs": len(runs), **own})
    base = [stage for stage in plan.stages if kind_of(stage.kind).makes_base and store.record(stage)]
    rows.append({"part": "base", "num_runs": len(base), **_sum(base, store)})
    stored = [stage for stage in plan.stages if not kind_of(stage.kind).makes_base]
    rows.append({"part": "total", "num_runs": len(done) + len(plan.search_runs), **_sum(stored, store)})
    table = pd.DataFrame(rows, columns=["part", "algorithm", "data_size", "num_runs", *COSTS])
    return table.astype({"data_size": "Int64"})


def _sum(stages: Iterable[Stage], store: Store) -> dict[str, float]:
    total = dict.fromkeys(COSTS, 0.0)
    for stage in stages:
        record = store.record(stage)
        if record is None:
            continue
        numbers, kind = record["numbers"], kind_of(stage.kind)
        total["wall_seconds"] += record["wall_seconds"]
        for name in FLOPS:
            total[name] += numbers.get(name, 0.0)
        if kind.verified is not None:
            count = loaded(kind.verified)(stage, numbers)
            total["verifier_calls"] += count
            total["samples"] += count if kind.samples is not None else 0.0
    return total
