"""Parameters and predictions with intervals, as records for fits.json, sentences and tables.

In: a fit, its bootstrap draws, and the places that the user asks for. Out: `Fitted`, the content of a report on points.
A prediction has the interval of the curve and, if the scatter of points about it can be estimated, that of a new run.
For the latter, scatter in log y is added to each draw of the curve, from Student's t with as many degrees of freedom as
there are points in excess of parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.curves.points import PointsError
from analysis.page.rendering import TextTable

INTERVAL = "95 % percentile, bootstrap over points"
_NEW_RUNS = 8  # for each draw of the curve


class Fitted(NamedTuple):
    """The content of a report on points."""

    document: dict[str, object]  # of fits.json
    points: pd.DataFrame
    figure: Figure
    caption: str
    sentences: tuple[str, ...]
    tables: tuple[TextTable, ...]


class Scatter(NamedTuple):
    """The scatter of log y about the fit."""

    sd: float  # of a run of mean weight
    freedom: int


class Place(NamedTuple):
    """Where something is predicted."""

    at: Mapping[str, float]
    beyond: str  # such as "7.3 times the largest N"; empty within the points

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value:g}" for name, value in self.at.items())


def scatter(observed: np.ndarray, fitted: np.ndarray, weights: np.ndarray, num_parameters: int) -> Scatter | None:
    """The scatter of points about a fit; None if there are no more points than parameters."""
    freedom = len(observed) - num_parameters
    if freedom < 1:
        return None
    squares = (weights / weights.mean()) @ (np.log(observed) - np.log(fitted)) ** 2
    return Scatter(float(np.sqrt(squares / freedom)), freedom)


def places(asked: Sequence[str], names: Sequence[str], x: Sequence[np.ndarray]) -> list[Place]:
    """Read `4096`, `size=4096` or `N=7e9,D=1e12`. Raises PointsError."""
    return [place(_values(text, names), names, x) for text in asked]


def place(values: Mapping[str, float], names: Sequence[str], x: Sequence[np.ndarray]) -> Place:
    beyond = []
    for name, points in zip(names, x, strict=True):
        value = values[name]
        if value > points.max() * (1 + 1e-9):
            beyond.append(f"{value / points.max():.3g} times the largest {name}")
        elif value < points.min() * (1 - 1e-9):
            beyond.append(f"{value / points.min():.3g} times the smallest {name}")
    return Place(values, " and ".join(beyond))


def predicted(
    where: Place, estimate: float, draws: np.ndarray, about: Scatter | None, generator: np.random.Generator
) -> dict[str, Any]:
    """A prediction with the interval of the curve, and that of a new run."""
    low, high = np.quantile(draws, [0.025, 0.975]).tolist()
    found: dict[str, Any] = {**where.at, "fitted": float(estimate), "low": low, "high": high}
    if about is not None:
        missed = about.sd * generator.standard_t(about.freedom, size=(_NEW_RUNS, len(draws)))
        ends = np.quantile(np.log(draws) + missed, [0.025, 0.975])
        found["new_run_low"], found["new_run_high"] = np.exp(np.clip(ends, -700, 700)).tolist()
    return found | {"extrapolated": bool(where.beyond), "beyond": where.beyond}


def prediction_sentence(where: Place, what: str, found: Mapping[str, Any]) -> str:
    text = f"At {where} {what} is {found['fitted']:.4g}, 95 % interval {found['low']:.4g} to {found['high']:.4g}"
    if "new_run_low" in found:
        text += f", and {found['new_run_low']:.4g} to {found['new_run_high']:.4g} for a new run"
    if "forms_low" in found:
        text += f"; the forms fitted give {found['forms_low']:.4g} to {found['forms_high']:.4g}"
    return text + (f". Extrapolated: {where.beyond}." if where.beyond else ".")


def prediction_table(places_: Sequence[Place], what: str, rows: Sequence[Mapping[str, Any]], note: str) -> TextTable:
    names = tuple(places_[0].at) if places_ else ()
    cells = tuple(
        (
            *(f"{value:g}" for value in where.at.values()),
            f"{row['fitted']:.4g}",
            f"{row['low']:.4g} to {row['high']:.4g}",
            f"{row['new_run_low']:.4g} to {row['new_run_high']:.4g}" if "new_run_low" in row else "not estimated",
            where.beyond or "no",
        )
        for where, row in zip(places_, rows, strict=True)
    )
    return TextTable((*names, f"{what}, predicted", "95 % interval", "of a new run", "extrapolated"), cells, note)


def intervals(names: Sequence[str], point: np.ndarray, draws: np.ndarray) -> dict[str, dict[str, float]]:
    """Name -> estimate and limits. draws: float64 [B, len(names)]."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0).tolist()
    rows = zip(names, point.tolist(), low, high, strict=True)
    return {name: {"estimate": estimate, "low": a, "high": b} for name, estimate, a, b in rows}


class Region(NamedTuple):
    """A joint 95 % region of the asymptote and the steepness: an ellipse in c and log b."""

    center: tuple[float, float]  # c, b
    correlation: float  # of c and log b over draws
    outline: list[tuple[float, float]]  # points (c, b) along its edge

    def __str__(self) -> str:
        c, b = zip(*self.outline, strict=True)
        return f"c {min(c):.3g} to {max(c):.3g} and b {min(b):.3g} to {max(b):.3g}, correlation {self.correlation:+.2f}"


def joint_region(c: np.ndarray, b: np.ndarray) -> Region | None:
    """The region from draws [B] of both; None if they do not vary. 95 % of the draws lie inside."""
    drawn = np.stack([c, np.log(b)])
    center, covariance = drawn.mean(axis=1), np.cov(drawn)
    if np.linalg.matrix_rank(covariance) < 2:
        return None
    root = np.linalg.cholesky(covariance)
    distance = np.linalg.norm(np.linalg.solve(root, drawn - center[:, None]), axis=0)
    angle = np.linspace(0, 2 * np.pi, 65)
    edge = center[:, None] + np.quantile(distance, 0.95) * root @ np.stack([np.cos(angle), np.sin(angle)])
    edge = np.clip(edge.T, drawn.min(axis=1), drawn.max(axis=1))  # no draw lies beyond, such as a floor below 0
    outline = [(float(one), float(np.exp(other))) for one, other in edge]
    return Region((float(center[0]), float(np.exp(center[1]))), float(np.corrcoef(drawn)[0, 1]), outline)


def spread(item: Mapping[str, float]) -> str:
    return f"{item['estimate']:.4g} ({item['low']:.4g} to {item['high']:.4g})"


def parameter_table(
    found: Mapping[str, Mapping[str, float]], at_bounds: Sequence[str], interval: str = INTERVAL
) -> TextTable:
    limits = {name: f"{i['low']:.5g} to {i['high']:.5g}" for name, i in found.items()}
    limits |= dict.fromkeys(at_bounds, "at its bound")
    rows = ((name, f"{i['estimate']:.5g}", limits[name]) for name, i in found.items())
    return TextTable(("parameter", "estimate", "95 % interval"), tuple(rows), f"Intervals: {interval}.")


def _values(text: str, names: Sequence[str]) -> dict[str, float]:
    parts = [part.partition("=") for part in text.split(",")]
    if len(parts) == len(names) == 1 and not parts[0][1]:
        parts = [(names[0], "=", parts[0][0])]
    example = ",".join(f"{name}=4096" for name in names)
    found = {}
    for name, equals, number in parts:
        try:
            found[name.strip()] = float(number) if equals else np.nan
        except ValueError:
            found[name.strip()] = np.nan
    if set(found) != set(names) or len(parts) != len(names):
        raise PointsError(f"--predict is {text!r}; it gives one number for each of {', '.join(names)}: {example}.")
    for name, value in found.items():
        if not (np.isfinite(value) and value > 0):
            raise PointsError(f"--predict is {text!r}; {name} is a finite number above 0, such as {example}.")
    return {name: found[name] for name in names}
