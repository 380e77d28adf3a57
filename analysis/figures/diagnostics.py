"""Figures that check a multiplier: hold-out misses, bootstrap density, spread over forms, residuals by data size.

In: a `Study` with a joint fit. Out: matplotlib figures, drawn from tables that are saved beside
them. If a study has no joint fit, the tables are empty and there are no figures.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.looks import HOLLOW, Look
from analysis.figures.overview import error_table
from analysis.figures.style import (
    FARTHEST,
    OWN,
    WIDTH,
    Place,
    arms,
    beside,
    blank,
    cut,
    legend_above,
    multipliers_on,
    name_axes,
    sizes_on_x,
    state_n,
    styled,
    wrapped,
)
from analysis.multipliers.model import SPREAD_QAICC
from analysis.page.wording import Wording
from analysis.tables.printing import current, label
from analysis.verdicts.claims import claim_of, claim_text, value_of
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import Study

_ROW_LETTERS = 34  # in a line of an algorithm's name beside its row
_ROW, _HIGHER_ROW = 0.62, 0.9  # inches; where names have several lines
_HOLDOUT = ("form", "num_dropped", "algorithm", "data_size", "predicted", "observed", "chosen")
_DENSITY = ("algorithm", "log2_m", "density")
_SPREAD = ("algorithm", "kind", "name", "m", "low", "high")
_RESIDUAL = ("algorithm", "data_size", "observed", "fitted", "low", "high", "used")


def holdout_table(study: Study) -> pd.DataFrame:
    """Every held-out cell under every form and last1."""
    rows = [
        (item.form, item.num_dropped, name, item.data_size, item.predicted, item.observed, item.form == chosen)
        for name, model in study.models.items()
        for chosen in [model.constant.form.name]
        for item in model.holdout.predictions
        if item.algorithm == name
    ]
    return pd.DataFrame(rows, columns=list(_HOLDOUT))


def density_table(study: Study) -> pd.DataFrame:
    """Density of the draws of log2 m, smoothed with Silverman's bandwidth, if one number is given."""
    tables = []
    for name in study.models:
        model = study.described(name)
        if model is not None:
            at, density = _smooth(model.constant_draws.log_multiplier(1) / np.log(2))
            tables.append(pd.DataFrame({"algorithm": name, "log2_m": at, "density": density}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(_DENSITY))


def spread_table(panel: Panel) -> pd.DataFrame:
    """m in every way of fitting: the joint fit with its interval, other forms, other losses, without a form."""
    study = panel.study
    rows: list[tuple[object, ...]] = []
    for name, model in study.models.items():
        form, best = model.constant.form.name, model.scores[0].qaicc
        rows.append((name, "joint fit", form, *model.multiplier))
        for score in model.scores:
            alike = score.qaicc <= best + SPREAD_QAICC or score.form == form
            kind = "form" if alike else "form that fits worse"
            rows.append((name, kind, score.form, score.multiplier, None, None))
        rows += [(name, "variant", item.name, item.multiplier, None, None) for item in panel.questions[name].variants]
        means = [item for item in study.multipliers if item.kind == "mean" and item.algorithm == name]
        rows += [(name, "form-free", "isotonic mean", item.estimate, item.low, item.high) for item in means]
    return pd.DataFrame(rows, columns=list(_SPREAD)).astype({"low": float, "high": float})


def residual_table(study: Study) -> pd.DataFrame:
    """Error minus the joint fit's at every cell, with the error's interval."""
    if study.curve is None or study.error_low is None or study.error_high is None:
        return pd.DataFrame(columns=list(_RESIDUAL))
    table = error_table(study).rename(columns={"error": "observed"})
    low, high = (table[name] - table["fitted"] for name in ("error_low", "error_high"))
    table = table.assign(low=low, high=high, used=study.used)
    return table.loc[table["fitted"].notna(), list(_RESIDUAL)].reset_index(drop=True)


def holdout_figure(study: Study, place: Place = OWN) -> Figure | None:
    """Error minus the prediction for sizes left out, by form; filled: one size left out, open: two."""
    table = holdout_table(study)
    if table.empty:
        return None
    with styled():
        figure, axes = blank(place=place)
        draw_holdout(axes, table, arms(study))
        name_axes(axes, "form of the curve", "error minus prediction (points)")
        legend_above(figure, place=place)
        return figure


def density_figure(study: Study, claims: Mapping[str, float | str], place: Place = OWN) -> Figure | None:
    """Density of the bootstrap draws of log2 m; dotted: the claims."""
    table = density_table(study)
    if table.empty:
        return None
    with styled():
        figure, axes = blank(place=place)
        draw_density(axes, table, arms(study), claims)
        at = f"multiplier m (times more {label(study.reference)} data), log2 scale"
        name_axes(axes, at, "density of draws, per doubling of m")
        legend_above(figure, place=place)
        return figure


def spread_figure(panel: Panel, place: Place = OWN) -> Figure | None:
    """m in every way of fitting, one row of marks for each."""
    study, table = panel.study, spread_table(panel)
    if table.empty:
        return None
    with styled():
        row = _ROW if current().width is None else _HIGHER_ROW
        figure, axes = blank(max(2.2, 1.1 + row * table["algorithm"].nunique()), place)
        places = arms(study)
        draw_spread(axes, table, places)
        if place == OWN and current().width is None:
            longest = max(len(places[name].name) for name in table["algorithm"])
            figure.set_figwidth(WIDTH * (1.4 if longest > _ROW_LETTERS else 1.0))
        name_axes(axes, f"multiplier m (times more {label(study.reference)} data)")
        legend_above(figure, place=place)
        return figure


def residual_figure(study: Study, wording: Wording, place: Place = OWN) -> Figure | None:
    """Error minus the joint fit against data: a trend in an algorithm means that no single multiplier describes it."""
    table = residual_table(study)
    if table.empty:
        return None
    with styled():
        figure, axes = blank(place=place)
        draw_residuals(axes, table, arms(study))
        sizes_on_x(axes, study.outcomes.data_size)
        name_axes(axes, wording.size_axis, "error minus joint fit (points)")
        state_n(axes, study)
        legend_above(figure, place=place)
        return figure


def draw_holdout(axes: Axes, table: pd.DataFrame, places: Mapping[str, Look]) -> None:
    """table: from holdout_table."""
    forms, names = list(dict.fromkeys(table["form"])), list(places)
    for row in table.itertuples():
        look, aside = places[row.algorithm], (names.index(row.algorithm) + 0.5) / len(names) - 0.5
        at, miss = forms.index(row.form) + 0.7 * aside, 100 * (row.observed - row.predicted)
        fill = look.face if row.num_dropped == 1 else HOLLOW
        axes.plot(at, miss, look.marker, color=look.colour, markersize=4, mew=0.8, **fill)
    for name, look in places.items():
        if (table["algorithm"] == name).any():
            axes.plot([], [], look.marker, color=look.colour, markersize=4, label=look.name, **look.face)
    for inside, text in (("#444444", "one size left out"), ("none", "two left out")):
        axes.plot([], [], "o", color="#444444", markersize=4, mfc=inside, mew=0.8, label=text)
    axes.axhline(0.0, color="#000000", linewidth=0.7, linestyle=":")
    chosen = set(table.loc[table["chosen"], "form"])
    axes.set_xticks(range(len(forms)), [f"{form}\n(chosen)" if form in chosen else form for form in forms])


def draw_density(
    axes: Axes, table: pd.DataFrame, places: Mapping[str, Look], claims: Mapping[str, float | str]
) -> None:
    """table: from density_table."""
    claimed = {str(name): claim_of(str(name), claims) for name in dict.fromkeys(table["algorithm"])}
    for name, part in table.groupby("algorithm", sort=False):
        look, claim = places[str(name)], claimed[str(name)]
        axes.plot(part["log2_m"], part["density"], linestyle=look.dash, color=look.colour, label=look.name)
        alike = [one for one in claimed if claimed[one] == claim]
        if claim is not None and alike[0] == name:  # one line for all of them
            at, several = value_of(claim), len(alike) > 1
            who = " and ".join(dict.fromkeys(label(one).partition(",")[0] for one in alike)) if several else look.name
            shade, text = "#444444" if several else look.colour, f"{who}, claim of {claim_text(claim)}"
            axes.axvline(np.log2(at), color=shade, linewidth=1.0, linestyle=(0, (1, 1)), label=text)
    axes.axvline(0.0, color="#888888", linewidth=0.5, zorder=0)
    axes.set_ylim(bottom=0)
    cut(axes, -np.log2(FARTHEST), np.log2(FARTHEST))
    multipliers_on(axes.xaxis, logarithmic=False)


def draw_spread(axes: Axes, table: pd.DataFrame, places: Mapping[str, Look]) -> None:
    """table: from spread_table."""
    axes.set_xscale("log")
    names = list(dict.fromkeys(table["algorithm"]))
    marks = {
        "form": ("o", "full", 0.12, "forms, QAICc within 4"),
        "form that fits worse": ("x", "full", 0.12, "forms that fit worse"),
        "variant": ("s", "none", 0.24, "other losses, smallest D left out"),
    }
    for row, name in enumerate(names):
        part, shade = table[table["algorithm"] == name], places[name].colour
        for kind, width, offset in (("joint fit", 2.4, 0.0), ("form-free", 1.0, 0.36)):
            for item in part[part["kind"] == kind].itertuples():
                axes.plot([item.low, item.high], [row + offset] * 2, color=shade, linewidth=width)
                shape, size = ("D", 4) if kind == "form-free" else ("|", 8)
                axes.plot(item.m, row + offset, shape, color=shade, markersize=size)
        for kind, (shape, fill, offset, _) in marks.items():
            found = part.loc[part["kind"] == kind, "m"]
            axes.plot(found, [row + offset] * len(found), shape, color=shade, fillstyle=fill, markersize=3.5)
    grey = "#444444"
    axes.plot([], [], "|-", color=grey, linewidth=2.4, markersize=8, label="95 % bootstrap")
    axes.plot([], [], "D-", color=grey, linewidth=1.0, markersize=4, label="without a form")
    for shape, fill, _, text in marks.values():
        axes.plot([], [], shape, color=grey, fillstyle=fill, markersize=3.5, label=text)
    axes.axvline(1.0, color="#888888", linewidth=0.7, linestyle=":")
    letters = (
        _ROW_LETTERS if current().width is None else max(12, int(0.4 * _ROW_LETTERS * (current().width or 0) / WIDTH))
    )
    axes.set_yticks(range(len(names)), [wrapped(places[name].name, letters) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.4)
    cut(axes, 1 / FARTHEST, FARTHEST)
    multipliers_on(axes.xaxis)


def draw_residuals(axes: Axes, table: pd.DataFrame, places: Mapping[str, Look]) -> None:
    """table: from residual_table; open marks: cells beyond a turning point, which were not fitted."""
    for name, part in table.groupby("algorithm", sort=False):
        look = places[str(name)]
        at = part["data_size"] * beside(list(places).index(str(name)), len(places), 1.06)
        miss = 100 * (part["observed"] - part["fitted"])
        axes.vlines(at, 100 * part["low"], 100 * part["high"], color=look.colour, linewidth=0.7, alpha=0.6)
        axes.plot(at, miss, linestyle=look.dash, color=look.colour, linewidth=0.7)
        for used, fill in ((True, look.face), (False, HOLLOW)):
            kept, text = (part["used"] == used).to_numpy(), look.name if used else None
            axes.plot(at[kept], miss[kept], look.marker, color=look.colour, markersize=4, label=text, **fill)
    axes.axhline(0.0, color="#000000", linewidth=0.7, linestyle=":")


def _smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian kernel density at 120 points, for draws of finite spread."""
    width = max(0.9 * values.std() * len(values) ** -0.2, 1e-3)
    at = np.linspace(values.min() - 3 * width, values.max() + 3 * width, 120)
    kernel = np.exp(-0.5 * ((at[:, None] - values) / width) ** 2)
    return at, kernel.mean(axis=1) / (width * np.sqrt(2 * np.pi))
