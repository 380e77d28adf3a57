"""One panel of a results folder: its tables as the report wrote them, and its figures, drawn on demand.

In: a folder that `python -m analysis.report` wrote. Out: `ResultsFolder`. Tables are read, never computed again, so
they equal the report's to the last digit. A figure needs the study itself with its bootstrap draws. The first figure
computes it from outcomes.parquet, and raises an error if the numbers differ from those of the tables.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.catalogue import STUDY_FIGURES
from analysis.figures.overview import figure_suffix, multiplier_table
from analysis.figures.style import Place
from analysis.measures.base_policies import base_figure
from analysis.measures.critical_plots import critical_figure, shown_size
from analysis.measures.trend_plots import trend_figure
from analysis.measures.trends import TRENDS
from analysis.page.wording import SWEEP
from analysis.reporting.fits_file import data_hash
from analysis.tables.outcomes import Outcomes, from_table
from analysis.tables.printing import Printing
from analysis.tables.selection import SELECTION, Moves, moves_of
from analysis.verdicts.compute import costs_by_cell
from analysis.verdicts.panel import Panel, Question, analysed

FILES = ("fits.json", "runs.csv", "outcomes.parquet", "errors.csv", "multipliers.csv")
_MORE_FIGURES = (*(trend.name for trend in TRENDS), "critical_steps", "base")  # drawn from tables of their own
_SAME = 1e-4  # relative; processors round differently, versions of the analysis differ by more


class ResultsError(ValueError):
    """A folder or a name is wrong; the message says what was expected and the cure."""


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file of a report; names stay text."""
    settings: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    text = dict.fromkeys(("panel", "algorithm", "size"), str)
    with intact(path):
        table: pd.DataFrame = pd.read_csv(path, dtype=text, **settings)
    return table


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a report."""
    with intact(path):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"it holds a {type(document).__name__}, not an object.")
    return document


def read_all_outcomes(folder: Path) -> pd.DataFrame:
    """outcomes.parquet with all panels; names as text."""
    with intact(folder / "outcomes.parquet"):
        table = pd.read_parquet(folder / "outcomes.parquet")
        return table.astype(dict.fromkeys(("panel", "algorithm", "problem"), str))


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Raise ResultsError if what is read from a report's file is not what a report writes."""
    try:
        yield
    except (ValueError, KeyError, OSError) as error:
        cure = f". To mend it, {_redraw(path.parent)}"
        raise ResultsError(f"{path} is damaged: {error}".rstrip(".") + cure) from error


def _redraw(folder: Path) -> str:
    return f"draw the report again: python -m analysis.report sweeps/{folder.resolve().name}.yaml."


def selection_table(folder: Path) -> pd.DataFrame:
    """selection.csv; without rows if no cell was selected by several seeds, or the report predates this file."""
    if not (folder / "selection.csv").is_file():
        return pd.DataFrame(columns=list(SELECTION))
    found = read_table(folder / "selection.csv")
    return found.assign(panel=found["panel"].fillna(""))


@dataclass(frozen=True)
class ResultsFolder:
    """One panel of the folder."""

    directory: Path
    document: Mapping[str, Any]  # fits.json
    panel: str  # "" if the sweep has only one

    @property
    def panels(self) -> tuple[str, ...]:
        """Names of all panels of the folder."""
        return tuple(self.document["panels"])

    @property
    def fits(self) -> Mapping[str, Any]:
        """The panel's entry of fits.json."""
        entry: Mapping[str, Any] = self.document["panels"][self.panel]
        return entry

    @cached_property
    def runs(self) -> pd.DataFrame:
        """runs.csv."""
        return self._of_panel(self._read("runs.csv"))

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """outcomes.parquet."""
        return self._of_panel(read_all_outcomes(self.directory))

    @cached_property
    def cells(self) -> Outcomes:
        """The outcomes, checked and arranged."""
        with intact(self.directory / "outcomes.parquet"):
            return from_table(self.outcomes)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """errors.csv."""
        return self._of_panel(self._read("errors.csv"))

    @cached_property
    def multipliers(self) -> pd.DataFrame:
        """multipliers.csv."""
        return self._of_panel(self._read("multipliers.csv"))

    @cached_property
    def verdicts(self) -> list[Mapping[str, Any]]:
        """The claims in fits.json."""
        return list(self.fits["verdicts"])

    @cached_property
    def selection(self) -> Moves:
        """How errors move where settings were chosen without one of the selection seeds."""
        return moves_of(selection_table(self.directory), self.panel)

    @property
    def printing(self) -> Printing:
        """How the report was printed."""
        return Printing(self.document.get("labels", {}), self.document.get("figure_width"))

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the panel's figures in the report."""
        return tuple(name for name in (*STUDY_FIGURES, *_MORE_FIGURES) if self._picture(name).exists())

    def draw(self, name: str, place: Place) -> Figure | None:
        """One of `figures`. Raises ResultsError if the folder does not suffice to compute the study again."""
        if name in STUDY_FIGURES:
            return STUDY_FIGURES[name](self.study, self.document["claims"], SWEEP, place)
        if name == "base":
            return base_figure(self._read("base.csv"), place)
        if name == "critical_steps":
            return critical_figure(shown_size(self._of_panel(self._read("critical_steps.csv"))), place)
        trend = next(trend for trend in TRENDS if trend.name == name)
        table = self._of_panel(self._read("trends.csv"))
        return trend_figure(trend, table[table["trend"] == name], place)

    @cached_property
    def study(self) -> Panel:
        """The analysis of outcomes.parquet, as the report made it."""
        redraw = _redraw(self.directory)
        if "claims" not in self.document:
            raise ResultsError(f"{self.directory / 'fits.json'} has no claims: an earlier version wrote it; {redraw}")
        outcomes = self.cells
        if data_hash(outcomes) != self.fits["data_hash"]:
            raise ResultsError(f"{self.directory}: fits.json belongs to other outcomes than outcomes.parquet; {redraw}")
        numbers = (self.document["claims"], self.document["bootstrap_draws"], self.document["seed"])
        pairs = tuple((a, b) for a, b in self.document.get("compare", ()))
        price = self.document.get("problem_flops", 0.0)
        question = Question(self.fits["reference"], *numbers, price, compare=pairs)
        costs = costs_by_cell(self.runs.assign(panel=self.panel), self.panel)
        ceiling = {int(size): float(m) for size, m in self.fits.get("ceiling", {}).items()}
        found = analysed(outcomes, question, self.fits.get("base_error"), costs, ceiling, self.selection)
        if not _agree(multiplier_table(found.study), self.multipliers):
            raise ResultsError(
                f"{self.directory}: this version of the analysis gives other multipliers than multipliers.csv, so its"
                f" figures would contradict the tables; {redraw}"
            )
        return found

    def _picture(self, name: str) -> Path:
        suffix = "" if name == "base" else figure_suffix(self.panel)  # all panels share the base policies
        return self.directory / "figures" / f"{name}{suffix}.png"

    def _read(self, name: str) -> pd.DataFrame:
        return read_table(self.directory / name)

    def _of_panel(self, table: pd.DataFrame) -> pd.DataFrame:
        mine = table["panel"].fillna("") == self.panel
        return table[mine].drop(columns="panel").reset_index(drop=True)


def open_folder(path: Path, panel: str | None) -> ResultsFolder:
    """Look at a folder without reading its tables. panel: may be None if there is only one. Raises ResultsError."""
    made = "python -m scaling.sweep and python -m analysis.report write one, such as results/quickstart."
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ResultsError(f"{path} {what}; give the folder of a sweep's results: {made}")
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        cure = "fit_table takes the table that analysis.fit was given." if len(missing) < len(FILES) - 1 else made
        raise ResultsError(f"{path} is not a folder of a sweep's results: it lacks {', '.join(missing)}; {cure}")
    document = read_json(path / "fits.json")
    with intact(path / "fits.json"):
        names = list(document["panels"])
    listed = ", ".join(map(repr, names))
    if panel is None and len(names) > 1:
        raise ResultsError(
            f"{path} has {len(names)} panels, and each is a study of its own; name one, by panel= or --panel: {listed}."
        )
    if panel is not None and panel not in names:
        raise ResultsError(f"{path} has no panel {panel!r}; its panels are {listed}.")
    return ResultsFolder(path, document, names[0] if panel is None else panel)


def _agree(found: pd.DataFrame, stored: pd.DataFrame) -> bool:
    """Whether two tables of multipliers have the same rows with the same numbers."""
    if len(found) != len(stored) or not len(found):
        return len(found) == len(stored)
    names = ["algorithm", "kind"]
    numbers = ["data_size", "estimate", "low", "high"]
    same_rows = (found[names].astype(str).to_numpy() == stored[names].astype(str).to_numpy()).all()
    left, right = (table[numbers].to_numpy(float, na_value=np.nan) for table in (found, stored))
    return bool(same_rows and np.allclose(left, right, rtol=_SAME, equal_nan=True))
