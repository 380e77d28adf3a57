"""The base policies of a sweep: how far each was pretrained, and how well it then knows its text and solves problems.

In: a plan and its store. Out: one row per evaluated base policy. If `pretrain.num_updates` is an axis, these rows are a
learning curve of pretraining, which `python -m analysis.fit results/NAME/base.csv --x num_texts --y excess_loss` fits.
"""

import pandas as pd

from data.problems.families import family_of
from scaling.config.sweep import Cell
from scaling.config.text_problems import TextProblems
from scaling.engine.store import Store
from scaling.planning.chain import base_policy
from scaling.planning.plan import Plan
from scaling.planning.recipes import base_evaluation

COLUMNS = (
    *("size", "pretrain_seed", "num_updates", "num_texts", "training_flops", "loss", "entropy", "excess_loss"),
    *("num_problems", "error"),
)


def base_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Pretrained base policies, the shortest training first; random and imported ones have no place on the curve.

    loss and entropy are in nats per token of the web text's completions. loss is the mean over the last part of
    training, on texts not seen before; entropy is the part that no policy can predict.
    """
    rows = {}
    for cell in (run.cell for run in plan.runs if run.cell.policy.hf is None and run.cell.policy.base == "pretrained"):
        evaluated, trained = store.record(base_evaluation(cell)), store.record(base_policy(cell))
        if evaluated is None or trained is None or evaluated["digest"] in rows:
            continue
        numbers, settings = evaluated["numbers"], cell.pretrain
        loss, entropy = trained["numbers"]["train/loss"], _entropy(cell)
        rows[evaluated["digest"]] = (
            *(cell.policy.size, settings.seed, settings.num_updates, settings.num_updates * settings.batch_size),
            *(trained["numbers"]["training_flops"], loss, entropy, loss - entropy),
            *(int(numbers["num_problems"]), numbers["error"]),
        )
    table = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    return table.sort_values(["size", "num_updates", "pretrain_seed"], kind="stable", ignore_index=True)


def _entropy(cell: Cell) -> float:
    """Nats per token of a completion, its end included; all completions of a family's web text have one length."""
    assert not isinstance(cell.problems, TextProblems)  # policies for those are imported
    family = family_of(cell.problems)
    facts = family.web_facts(cell.problems, cell.pretrain.seed)
    return float(family.web_entropy(cell.problems, facts)) / (family.max_completion_words(cell.problems) + 1)
