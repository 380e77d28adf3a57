"""The base policies of a sweep: how far each was pretrained, and how well it then knows its text and solves problems.

In: a plan and its store. Out: one row per evaluated base policy; `figures/base.png` and a `Section` on them. If
`pretrain.num_updates` is an axis, the rows are a learning curve of pretraining, which
`python -m analysis.fit results/NAME/base.csv --x num_texts --y excess_loss` fits.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures.looks import plain
from analysis.figures.overview import save
from analysis.figures.style import (
    HEIGHT,
    OWN,
    WIDTH,
    Place,
    legend_above,
    means_with_bars,
    pictures,
    sizes_on_x,
    styled,
)
from analysis.page.rendering import Section, TextTable, picture
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
FILE = "figures/base.png"
_WIDER = 1.3  # than a figure of one picture


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


def base_sections(table: pd.DataFrame, directory: Path) -> list[Section]:
    """Draw the curve into `directory`/figures if there are base policies to compare."""
    if len(table) < 2:
        return []
    save(base_figure(table), directory / FILE)
    caption = (
        "How far the base policy's loss on its web text exceeds the text's entropy, and its greedy error on"
        f" {table['num_problems'].max():,} test problems before any synthetic data, against the number of texts it was"
        " trained on. Each point is a single training, so there are no intervals."
    )
    rows = tuple(
        (
            *(row.size, str(row.pretrain_seed), f"{row.num_updates:,}", f"{row.num_texts:,}"),
            *(f"{row.loss:.3f}", f"{row.entropy:.3f}", f"{100 * row.error:.1f}"),
        )
        for row in table.itertuples(index=False)
    )
    hidden = int((table["excess_loss"] <= 0).sum())
    if hidden:
        caption += f" {hidden} whose loss does not exceed the entropy, by luck of the texts, are not drawn on the left."
    note = (
        "Loss and entropy in nats per token: the mean over the last part of training, and what no policy can predict of"
        f" the web text. Error: greedy, on {table['num_problems'].max():,} test problems. base.csv has the table: fit"
        " it with python -m analysis.fit base.csv --x num_texts --y excess_loss --out DIR, one size at a time."
    )
    columns = ("size", "pretrain.seed", "updates", "texts", "loss", "entropy", "error (%)")
    shown = TextTable(columns, rows, note)
    return [Section("Base policies", figures=(picture(directory, FILE, caption),), tables=(shown,))]


def base_figure(table: pd.DataFrame, place: Place = OWN) -> Figure:
    """Excess loss and test error against texts, a line for each size."""
    with styled():
        figure, (left, right) = pictures(2, (WIDTH * _WIDER, HEIGHT), place)
        for axes, measure, scale in zip((left, right), ("excess_loss", "error"), (1, 100), strict=True):
            for index, (size, rows) in enumerate(table.groupby("size", sort=False)):
                text = f"size {size}" if table["size"].nunique() > 1 else ""
                line = "" if rows["num_texts"].duplicated().any() else "-"  # replicates of one length are not joined
                rows = rows[rows[measure] > 0] if measure == "excess_loss" else rows
                means_with_bars(axes, rows["num_texts"], scale * rows[measure], None, plain(index), text, line)
            sizes_on_x(axes, table["num_texts"].to_numpy())
            axes.set_xlabel("web texts")
        if (table["excess_loss"] > 0).any():
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        left.set_ylabel("loss above the text's entropy\n(nats per token)")
        right.set_ylabel("test error before any\nsynthetic data (%)")
        if table["size"].nunique() > 1:
            legend_above(figure, place=place)
        return figure


def _entropy(cell: Cell) -> float:
    """Nats per token of a completion, its end included; all completions of a family's web text have one length."""
    assert not isinstance(cell.problems, TextProblems)  # policies for those are imported
    family = family_of(cell.problems)
    facts = family.web_facts(cell.problems, cell.pretrain.seed)
    return float(family.web_entropy(cell.problems, facts)) / (family.max_completion_words(cell.problems) + 1)
