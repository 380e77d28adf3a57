"""The base policies of a sweep: how far each was pretrained, and its error on the test problems before any D_syn.

In: a plan and its store. Out: one row a base policy that was evaluated, to be fitted as a learning curve of pretraining
where `pretrain.num_updates` is an axis (`python -m analysis.fit results/NAME/base.csv --x num_texts --y error`).
"""

import pandas as pd

from analysis.rendering import Grid, Section
from scaling.engine.store import Store
from scaling.plan import Plan
from scaling.recipes import base_evaluation, base_policy

COLUMNS = ("size", "pretrain_seed", "num_updates", "num_texts", "training_flops", "num_problems", "error")


def base_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Pretrained base policies, the shortest training first; random and imported ones have no place on the curve."""
    rows = {}
    for cell in (run.cell for run in plan.runs if run.cell.policy.hf is None and run.cell.policy.base == "pretrained"):
        evaluated, trained = store.record(base_evaluation(cell)), store.record(base_policy(cell))
        if evaluated is None or trained is None:
            continue
        numbers, settings = evaluated["numbers"], cell.pretrain
        rows[evaluated["digest"]] = (
            *(cell.policy.size, settings.seed, settings.num_updates, settings.num_updates * settings.batch_size),
            *(trained["numbers"]["training_flops"], int(numbers["num_problems"]), numbers["error"]),
        )
    table = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    return table.sort_values(["size", "num_updates", "pretrain_seed"], kind="stable", ignore_index=True)


def base_sections(table: pd.DataFrame) -> list[Section]:
    """A section where there are base policies to compare."""
    if len(table) < 2:
        return []
    rows = tuple(
        (row.size, str(row.pretrain_seed), f"{row.num_updates:,}", f"{row.num_texts:,}", f"{100 * row.error:.1f}")
        for row in table.itertuples(index=False)
    )
    note = (
        f"Error of the base policy before any synthetic data, greedy, on {table['num_problems'].max():,} test problems."
        " base.csv has the table: fit it with python -m analysis.fit base.csv --x num_texts --y error --out DIR."
    )
    columns = ("size", "pretrain.seed", "updates", "texts", "error (%)")
    return [Section("Base policies", tables=(Grid(columns, rows, note),))]
