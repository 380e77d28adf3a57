"""The two pages of the design planner, as Markdown, for the terminal and as a table for others to read.

In: finished numbers. Out: `Page`. Every page says in sentences what its table shows, and what was assumed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from rich.table import Table
from rich.text import Text

from analysis.planner.assumptions import Assumptions, Grid
from analysis.planner.expected import Expected, sentence
from analysis.planner.suggest import Candidate
from analysis.tables.printing import label
from analysis.verdicts.claims import claim_text

_EXPECTED = (
    *("algorithm", "claim", "assumed", "no interval", "width", "coverage"),
    *("right on claim", "told apart from half", "told apart from 1"),
)
_SUGGESTED = ("round", "addition", "gain", "standard error", "FLOPs", "gain per 1e12 FLOPs", "chosen")


@dataclass(frozen=True)
class Page:
    """One page; its tables are text, and numbers holds the same in full precision."""

    heading: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    tables: Mapping[str, Sequence[Sequence[str]]]  # title -> rows
    about: str
    numbers: pd.DataFrame

    def markdown(self) -> str:
        text = [f"# {self.heading}", "", *(f"- {line}" for line in self.sentences)]
        for title, rows in self.tables.items():
            lines = (f"| {' | '.join(row)} |" for row in (self.columns, ["---"] * len(self.columns), *rows))
            text += ["", title, "", *lines]
        return "\n".join([*text, "", self.about, ""])

    def terminal(self) -> list[Table]:
        found = []
        for title, rows in self.tables.items():
            table = Table(*self.columns, title=title, title_justify="left", box=None)
            for row in rows:
                table.add_row(*map(Text, row))
            found.append(table)
        return found


def design_page(
    name: str,
    panels: Sequence[tuple[Grid, Assumptions]],
    expected: Sequence[Sequence[Expected]],
    reference: str,
    num_draws: int,
    seed: int,
    command: str,
) -> Page:
    """What each panel can be expected to show."""
    sentences, tables, rows = [], {}, []
    for (grid, assumptions), of_panel in zip(panels, expected, strict=True):
        panel = f"[{grid.panel}] " if grid.panel else ""
        sentences += [panel + sentence(one, reference) for one in of_panel]
        tables[_title(grid, assumptions)] = [_expected_row(one) for one in of_panel]
        design = {"panel": grid.panel, "num_seeds": grid.num_seeds, "num_problems": grid.num_problems}
        rows += [{**design, **asdict(one), "reach": one.reach} for one in of_panel]
    counts = sorted({one.num_studies for found in expected for one in found})
    worst_error = 0.5 / math.sqrt(counts[0])  # of a share of one half
    about = (
        f"{' and '.join(map(str, counts))} simulated studies, {num_draws} draws each, seed {seed}. Width: upper limit"
        f" over lower in the median study; shares of studies have standard errors of up to {100 * worst_error:.0f}"
        f" points. Made by {command}; docs/design.md explains it."
    )
    heading = f"What {name} can be expected to show"
    return Page(heading, tuple(sentences), _EXPECTED, tables, about, pd.DataFrame(rows))


def suggestion_page(
    name: str,
    grid: Grid,
    assumptions: Assumptions,
    candidates: Sequence[Candidate],
    num_studies: int,
    seed: int,
    command: str,
) -> Page:
    """Which additions to make, in order."""
    sentences = [
        f"Add {one.what}: the interval of {label(one.algorithm)}, the widest with a factor of {one.width:.2f}, becomes"
        f" {100 * (1 - 2**-one.gain):.1f} % narrower, for {one.flops:.2g} FLOPs."
        for one in candidates
        if one.chosen
    ]
    nothing = "No addition clearly narrows the widest interval: none exceeds two standard errors. Try more --studies."
    rows = [
        [
            str(one.round),
            one.what,
            f"{one.gain:+.3f}",
            f"{one.error:.3f}",
            f"{one.flops:.2g}",
            f"{one.gain_per_flop * 1e12:+.2g}",
            "yes" if one.chosen else "",
        ]
        for one in candidates
    ]
    about = (
        "Gain: log2 of how many times narrower the widest interval becomes, upper limit over lower, a mean over"
        f" {num_studies} studies that all candidates share, under the form {assumptions.form}; seed {seed}. An addition"
        " is chosen only where its gain exceeds two standard errors. Sizes and test problems that the problem family"
        f" does not offer are left out. Made by {command}; docs/design.md says what is assumed."
    )
    numbers = pd.DataFrame([{**asdict(one), "gain_per_flop": one.gain_per_flop} for one in candidates])
    tables = {_title(grid, assumptions): rows}
    return Page(f"What to add to {name}", tuple(sentences) or (nothing,), _SUGGESTED, tables, about, numbers)


def _title(grid: Grid, assumptions: Assumptions) -> str:
    panel = f"{grid.panel}: " if grid.panel else ""
    return (
        f"{panel}{grid.num_seeds} seeds, {grid.num_problems:,} test problems. Assumed: {assumptions.source}; problem"
        f" difficulty of sd {assumptions.item_sd:.2f} and run effects of sd {assumptions.run_sd:.2f}, in logits,"
        f" {100 * assumptions.seed_share:.0f} % of their variance common to a seed."
    )


def _expected_row(one: Expected) -> list[str]:
    shares = (one.right_verdict, one.from_half, one.from_one)
    width = "none, or a bound" if math.isinf(one.width) else f"factor {one.width:.2f}"
    coverage = "-" if math.isnan(one.coverage) else f"{100 * one.coverage:.0f} %"
    claim = "-" if one.claim is None else claim_text(one.claim)
    shown = ["-" if share is None else f"{100 * share:.0f} %" for share in shares]
    refused = f"{100 * one.refused:.0f} %"
    return [label(one.algorithm), claim, one.assumed_text, refused, width, coverage, *shown]
