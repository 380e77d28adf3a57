"""The page of published curves: from results/published.csv, a row for each number, to results/published.md.

In: the file. Out: the page as text. Every number of ours comes from the file; the words, and what others published, are
in published.md.j2.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

COLUMNS = (
    "set",
    "learner",
    "reference",
    "what",  # m_first and m_last at the smallest and largest size, change between them, or a number of the surface
    "params_ratio",  # of the learner over the reference
    "data_size",  # of the learner; of tokens_a_parameter, FLOPs
    "estimate",
    "low",
    "high",
    "by_points",  # m by straight lines between the points
    "misfit",  # lag-one correlation of what the fits leave over, the larger of the two
    "reach",  # m at which the reference's points end
)
ENDS = ("m_first", "m_last")
_FAR = 4.0  # times the reference's largest size, beyond which a limit is not given
_APART = 1.25  # m with and without a form
_TEMPLATE = Path(__file__).with_name("published.md.j2")
_PUBLISHED = {
    "alpha": ("alpha", ".348 (.317 to .373), arXiv 2404.10102", "yes"),
    "beta": ("beta", ".366 (.331 to .415), arXiv 2404.10102", "yes"),
    "compute_exponent": (
        "power of compute by which the best size grows",
        ".46 by the same surface, about .5 by two other ways, arXiv 2203.15556",
        "not with .46, with .5",
    ),
    "tokens_a_parameter": ("tokens a parameter at 1e21 FLOPs", "about 20 (at 5.8e23), arXiv 2203.15556", "yes"),
}


def document(file: Path) -> str:
    """The page."""
    table = pd.read_csv(file)
    tuned = table[table["set"].isin(["flan", "gigaword"])]
    larger, started = (tuned[kept] for kept in (tuned["params_ratio"] > 1.5, tuned["params_ratio"] < 1.5))
    change = table[table["what"] == "change"]
    power = np.log(larger["estimate"]) / np.log(larger["params_ratio"])
    words = {
        "num_pairs": len(change),
        "num_changing": int(((change["low"] > 1) | (change["high"] < 1)).sum()),
        "num_larger": int((larger["what"] == "change").sum()),
        "worth": {end: _spread(larger[larger["what"] == end]["estimate"]) for end in ENDS},
        "powers": {end: f"{of.min():.1f} to {of.max():.1f}" for end in ENDS for of in [power[larger["what"] == end]]},
        "larger": _tuned(larger, sized=True),
        "started": _tuned(started, sized=False),
        "translation": _translation(table[table["set"] == "translation"]),
        "tokens": _tokens(table[table["set"] == "tokens"]),
        "vision": _vision(table[table["set"].str.startswith("vision")]),
    }
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(words)


def _tuned(rows: pd.DataFrame, sized: bool) -> str:
    head = ["learner", "against", *(["parameters"] if sized else []), "FLAN, few", "FLAN, many"]
    lines = []
    for (learner, reference), part in rows.groupby(["learner", "reference"], sort=False):
        names = [str(name).rpartition("/")[2] for name in (learner, reference)]
        ratio = [f"{part['params_ratio'].iloc[0]:.1f}x"] if sized else []
        halves = (part[part["set"] == name] for name in ("flan", "gigaword"))
        lines.append([*names, *ratio, *(_cell(half, end) for half in halves for end in ENDS)])
    return _table([*head, "Gigaword, few", "Gigaword, many"], lines)


def _translation(rows: pd.DataFrame) -> str:
    cells = ([name, *(_cell(part, end) for end in ENDS)] for name, part in rows.groupby("learner", sort=False))
    return _table(["architecture", "m, fewest sentence pairs", "m, most"], cells)


def _tokens(rows: pd.DataFrame) -> str:
    of = {row.what: row for row in rows.itertuples() if row.what in _PUBLISHED}
    lines = [[name, _interval(of[what]), said, agrees] for what, (name, said, agrees) in _PUBLISHED.items()]
    for row in rows[rows["what"] == "m"].itertuples():
        small, large, tokens = (f"{float(value) / 1e9:g}B" for value in (row.reference, row.learner, row.data_size))
        what = f"m of twice the parameters, {small} to {large}, {tokens} tokens"
        lines.append([what, _interval(row), "none that we know of", ""])
    return _table(["number", "ours", "published", "agrees"], lines)


def _vision(rows: pd.DataFrame) -> str:
    lines = [
        [*pair, *(_spread(part[part["what"] == end]["by_points"]) for end in ENDS)]
        for pair, part in rows.groupby(["learner", "reference"], sort=False)
    ]
    return _table(["model", "against", "m at the first common error", "m at the last"], lines)


def _cell(rows: pd.DataFrame, end: str) -> str:
    row: Any = next(rows[rows["what"] == end].itertuples())
    apart = max(row.by_points / row.estimate, row.estimate / row.by_points) > _APART
    high = "open" if row.high > _FAR * row.reach else f"to {_number(row.high)}"
    size = f"{row.data_size / 1e6:.3g} million" if row.data_size >= 1e6 else f"{row.data_size:,.0f}"
    return f"{_number(row.estimate)}{'*' if apart else ''} ({_number(row.low)} {high}) at {size}"


def _interval(row: Any) -> str:
    estimate, low, high = (f"{x:.3f}" if row.high < 1 else _number(x) for x in (row.estimate, row.low, row.high))
    return f"{estimate} ({low} to {high})"


def _spread(values: pd.Series) -> str:
    return f"{_number(values.median())} ({_number(values.min())} to {_number(values.max())})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])
