"""Studies in a notebook: a sweep's results, or anyone's table of outcomes, as tables and figures.

    from analysis.api import load, fit_table

In: a folder of results that `python -m analysis.report` wrote, or a DataFrame. Out: `Results`. Needs neither the store
nor jax nor ray; docs/api.md has examples, docs/results.md explains every column.
"""

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.catalogue import STUDY_FIGURES
from analysis.figures.overview import error_table, multiplier_table
from analysis.figures.style import OWN, Place
from analysis.multipliers.prediction import Predicted
from analysis.page.rendering import as_table
from analysis.page.wording import TABLE
from analysis.reporting.conclusions import summary
from analysis.reporting.fits_file import verdict_document
from analysis.reporting.results_folder import ResultsError, ResultsFolder, open_folder
from analysis.tables.cells import OutcomesError
from analysis.tables.eval_logs import read_logs
from analysis.tables.printing import Printing, printing
from analysis.verdicts.outcome_file import MIN_DRAWS, checked_ceiling, checked_claims, outcomes_of
from analysis.verdicts.panel import Panel, Question, analysed, check_sense

__all__ = ["OutcomesError", "Results", "ResultsError", "fit_table", "load", "read_logs"]

_VERDICT = ("algorithm", "code", "sentence", "claim", "claim_status", "claim_sentence", "low", "high")
_LEAST_WIDTH = 2.0  # of a figure, inches
NO_CLAIMS: Mapping[str, float | str] = MappingProxyType({})


def load(path: str | os.PathLike[str], panel: str | None = None) -> "Results":
    """The results of a sweep. Returns at once: tables are read and figures drawn on demand.

    path: the folder that the report wrote, such as results/quickstart. panel: which study, if a sweep has several
    because an axis such as policy.size changes the reference.
    Raises ResultsError for a folder without results, or if the panel is missing or unknown; the message lists them.
    """
    folder = open_folder(Path(path), panel)
    name = folder.directory.resolve().name
    return Results(
        name, folder.fits["reference"], folder.panel, folder.panels, folder.document.get("claims", {}), folder
    )


def fit_table(
    frame: pd.DataFrame,
    reference: str = "sft",
    claims: Mapping[str, float | str] = NO_CLAIMS,
    draws: int = 2000,
    seed: int = 0,
    ceiling: float | Mapping[int, float] | None = None,
) -> "Results":
    """Multipliers, with intervals and verdicts, from anyone's outcomes. Takes seconds to minutes.

    frame: one row for each run and problem, with the columns algorithm, data_size, seed, problem and wrong (0 or 1); or
    one row for each run, with algorithm, data_size, seed, num_problems and num_wrong. Other columns are ignored.
    reference: the algorithm that the others are compared with. claims: algorithm -> a multiplier to test, such as 2, or
    an upper bound, such as "<=1". draws, seed: of the bootstrap behind the intervals. ceiling: the largest multiplier
    that the problems allow, if known, of all data sizes or of each; a claim above it is not tested.
    Raises OutcomesError for a table or a claim that cannot be analysed; the message names the row and the cure.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}; fit_table takes a pandas DataFrame.")
    if not isinstance(claims, Mapping):
        raise TypeError(
            f"claims is a {type(claims).__name__}; it maps algorithms to multipliers, such as {{'rft': 2}}."
        )
    if draws < MIN_DRAWS or seed < 0:
        raise ValueError(
            f"draws is {draws} and seed {seed}; expected at least {MIN_DRAWS} draws and a seed of 0 or more."
        )
    table = frame.assign(algorithm=frame["algorithm"].astype(str)) if "algorithm" in frame else frame
    outcomes = outcomes_of(table, reference)
    claimed = checked_claims(claims, outcomes.algorithms, reference)
    limits = {} if ceiling is None else checked_ceiling(ceiling, outcomes, reference)
    panel = analysed(outcomes, Question(reference, claimed, draws, seed), ceiling=limits)
    check_sense(panel.study)
    fitted = _FittedTable(table, panel, claimed)
    return Results("table", reference, "", ("",), claimed, fitted)


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """One study. Every table is an independent DataFrame: changing one affects nothing else."""

    name: str
    reference: str  # the algorithm that the others are compared with
    panel: str  # "" if the sweep has only one
    panels: tuple[str, ...]  # names of all studies of the sweep, for load(path, panel=...)
    claims: Mapping[str, float | str]  # algorithm -> a multiplier, or an upper bound such as "<=1"
    _source: "_FittedTable | ResultsFolder"

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run: algorithm, data_size, seed, error (a fraction) and, for a sweep, settings and costs."""
        return self._source.runs.copy(deep=False)

    @property
    def outcomes(self) -> pd.DataFrame:
        """One row for each run and problem: algorithm, data_size, seed, problem, wrong (0 or 1).

        Counts are given as such.
        """
        return self._source.outcomes.copy(deep=False)

    @property
    def errors(self) -> pd.DataFrame:
        """One row for each algorithm and size: mean error with its 95 % interval and the joint fit, as fractions."""
        return self._source.errors.copy(deep=False)

    @property
    def multipliers(self) -> pd.DataFrame:
        """One row a multiplier: algorithm, kind (pointwise, overall, mean), data_size, estimate and 95 % interval.

        Multipliers are ratios of data sizes; a limit is 0 or inf if the error leaves the reference's range.
        """
        return self._source.multipliers.copy(deep=False)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row per algorithm: code, sentence, claim with its status, and the quoted interval of m."""
        rows = [{**item, **_limits(item.get("headline"))} for item in self._source.verdicts]
        return pd.DataFrame(rows, columns=list(_VERDICT))

    @property
    def figures(self) -> tuple[str, ...]:
        """The names for `figure`."""
        return self._source.figures

    def predict(self, data_size: int, seed: int = 0) -> pd.DataFrame:
        """m at a data size with its 95 % interval, and with that of the m that one new run there would show.

        One row per algorithm with a joint fit that describes it; analyses the outcomes of a sweep first, as figures do.
        """
        if isinstance(data_size, bool) or not isinstance(data_size, int | np.integer) or data_size < 1:
            raise ValueError(f"data_size is {data_size!r}; it is a whole number of problems, such as 4096.")
        return as_table(Predicted, self._source.study.predicted(data_size, seed))

    def table(self) -> pd.DataFrame:
        """The terminal's table as text: one row per algorithm, mean error in percent by size, the multiplier."""
        errors = self._source.errors
        sizes = sorted(set(errors["data_size"].tolist()))
        headlines = {item["algorithm"]: item.get("headline_text") for item in self._source.verdicts}
        with printing(self._source.printing):
            return summary(errors, headlines, self.reference, sizes)

    def figure(
        self,
        name: str,
        size: tuple[float, float] | None = None,
        ax: Axes | Sequence[Axes] | np.ndarray[Any, Any] | None = None,
        width: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Figure:
        """A figure of the report, drawn again.

        name: one of `figures`. width: in inches, such as 2.75 for a column of a paper; size: width and height; without
        either as in the report. labels: what to call algorithms, variants or settings, as in a sweep file; None: as in
        the report. ax: draw on these axes and return their figure; a sequence for figures with several panels.
        The first figure of a sweep analyses its outcomes again, which takes seconds to minutes.
        Raises ResultsError for an unknown name, listing the known ones, and if the folder's tables and the analysis
        disagree; ValueError for a wrong size or number of axes.
        """
        place, known = _place(size, ax), self._source.printing
        if width is not None and not _LEAST_WIDTH <= width < math.inf:
            raise ValueError(f"width is {width}; it is a number of inches from {_LEAST_WIDTH:g}, such as 2.75.")
        with printing(Printing(known.labels if labels is None else labels, width or known.width)):
            figure = self._source.draw(name, place) if name in self.figures else None
        if figure is None:
            raise ResultsError(f"{name!r} is not a figure of {self._title}; it has {', '.join(self.figures)}.")
        return figure

    @property
    def _title(self) -> str:
        return f"{self.name}, panel {self.panel}" if self.panel else self.name

    def __repr__(self) -> str:
        names, sizes = (self._source.errors[column] for column in ("algorithm", "data_size"))
        what = f"{names.nunique()} algorithms, D {sizes.min():,} to {sizes.max():,}, reference {self.reference}"
        return f"<Results of {self._title}: {what}>"

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li>{html.escape(' '.join(filter(None, (item.get('sentence'), item.get('claim_sentence')))))}</li>"
            for item in self._source.verdicts
        )
        caption = (
            f"<p><b>{html.escape(self._title)}</b>: mean test error in percent by data size, and the multiplier</p>"
        )
        return f"{caption}{self.table().to_html()}<ul>{items}</ul>"


@dataclass(frozen=True)
class _FittedTable:
    """A table that was analysed here."""

    outcomes: pd.DataFrame  # as given
    study: Panel
    claims: Mapping[str, float | str]

    @cached_property
    def runs(self) -> pd.DataFrame:
        keys = ["algorithm", "data_size", "seed"]
        if "wrong" not in self.outcomes:
            runs = self.outcomes[[*keys, "num_problems", "num_wrong"]].reset_index(drop=True)
            return runs.assign(error=runs["num_wrong"] / runs["num_problems"])
        wrong = self.outcomes.assign(wrong=self.outcomes["wrong"].astype(int)).groupby(keys, sort=False)["wrong"]
        return wrong.agg(num_problems="size", num_wrong="sum", error="mean").reset_index()

    @cached_property
    def errors(self) -> pd.DataFrame:
        return error_table(self.study.study)

    @cached_property
    def multipliers(self) -> pd.DataFrame:
        return multiplier_table(self.study.study)

    @cached_property
    def verdicts(self) -> Sequence[Mapping[str, Any]]:
        return [verdict_document(item) for item in self.study.study.verdicts]

    @property
    def printing(self) -> Printing:
        return Printing()

    @cached_property
    def figures(self) -> tuple[str, ...]:
        return tuple(name for name in STUDY_FIGURES if self.draw(name, OWN) is not None)

    def draw(self, name: str, place: Place) -> Figure | None:
        return STUDY_FIGURES[name](self.study, self.claims, TABLE, place)


def _place(size: tuple[float, float] | None, ax: Axes | Sequence[Axes] | np.ndarray[Any, Any] | None) -> Place:
    if ax is None:
        if size is not None and (len(size) != 2 or not all(0 < length < math.inf for length in size)):
            raise ValueError(f"size is {size}; it is width and height in inches, such as (6, 4).")
        return Place(size=size)
    if size is not None:
        raise ValueError("both size and ax are given; set the size on the figure of your axes.")
    axes = tuple(np.ravel(np.asarray(ax, dtype=object)))
    wrong = [item for item in axes if not isinstance(item, Axes)]
    if wrong:
        raise TypeError(f"ax holds a {type(wrong[0]).__name__}; give matplotlib Axes, or a sequence of them.")
    return Place(axes=axes)


def _limits(headline: Mapping[str, Any] | None) -> Mapping[str, float]:
    """low and high of the single number, or the outer limits of m at both ends; JSON has "inf" for infinity."""
    if headline is None:
        return {}
    points = headline["points"]
    return {
        "low": min(float(point["low"]) for point in points),
        "high": max(float(point["high"]) for point in points),
    }
