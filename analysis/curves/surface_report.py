"""Fits to points of two columns: the surface L(N, D), or the minima of isoFLOP curves.

In: checked columns and what is asked. Out: `Fitted` for `report`.
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.curves.isoflop import bootstrap_isoflop, fit_isoflop
from analysis.curves.numbers import (
    Fitted,
    Place,
    intervals,
    parameter_table,
    places,
    predicted,
    prediction_sentence,
    prediction_table,
    scatter,
    spread,
)
from analysis.curves.plots import isoflop_figure, surface_figure
from analysis.curves.points import NO_EFFECT, Request, check_surface, slopes
from analysis.curves.surface import SURFACES, Surface, SurfaceFit, bootstrap_surface, fit_surface, hold_out_surface
from analysis.page.rendering import TextTable

_FORMULA = "E + A / N^alpha + B / D^beta"
_NEW_RUN = "95 % interval: of the surface; of a new run: with the scatter of a point."


def fit_losses(
    at: Sequence[np.ndarray],
    y: np.ndarray,
    y_name: str,
    weights: np.ndarray,
    where: Sequence[Place],
    request: Request,
) -> Fitted:
    """The surface, compared with that of the other choice of exponents."""
    names, form, loss = request.x, request.form, request.loss
    check_surface(at, names)
    n, d = at
    fits = {name: fit_surface(n, d, y, kind=loss, weights=weights, shared=name != "chinchilla") for name in SURFACES}
    held = {name: hold_out_surface(n, d, y, loss, weights, shared=name != "chinchilla") for name in SURFACES}
    fit, mine = fits[form], held[form]
    blocks = bootstrap_surface(n, d, y, fit, request.num_draws, request.seed, loss, weights)
    draws = Surface(*_collected(blocks, request.num_draws).T)
    point, drawn = (np.stack([*one, one.compute_exponent, one.alpha - one.beta]) for one in (fit.surface, draws))
    found = intervals((*Surface._fields, "compute_exponent", "gap"), point, drawn.T)
    gap = found.pop("gap")
    fitted = fit.surface.predict(n, d)
    about = scatter(y, fitted, weights, 4 if fit.shared else 5)
    generator = np.random.default_rng([request.seed, 0x4EA5])
    ahead = []
    for one in where:
        estimate, in_draws = (surface.predict(*np.array(list(one.at.values()))) for surface in (fit.surface, draws))
        ahead.append(predicted(one, float(estimate), in_draws, about, generator))
    of = "Huber's loss, delta 1e-3, of log loss" if loss == "huber" else "squares of the loss"
    objective = f"weighted sum of {of}"
    compared = [
        {
            "form": name,
            "objective_value": fits[name].objective,
            "compute_exponent": fits[name].surface.compute_exponent,
            "holdout_rmsle": score.surface if score else None,
        }
        for name, score in held.items()
    ]
    document: dict[str, object] = {
        "kind": "surface",
        "form": form,
        "formula": _FORMULA,
        "objective": objective,
        "objective_value": fit.objective,
        "num_starts": fit.num_starts,
        "num_agree": fit.num_agree,
        "at_bounds": list(fit.at_bounds),
        "parameters": found,
        "alpha_minus_beta": None if fit.shared else gap,
        "compared": compared,
        "holdout": mine._asdict() if mine else None,
        "predictions": ahead,
    }
    surface = fit.surface
    sentences = [
        f"{y_name} = {surface.E:.4g} + {surface.A:.4g} / N^{surface.alpha:.4g} + {surface.B:.4g} / D^{surface.beta:.4g}"
        f" (n = {len(y)} points; {objective}, {fit.num_agree} of {fit.num_starts} starts agree)."
    ]
    effects = slopes(at, y, about.sd**2 if about else None)
    unseen = [name for name, (_, distance) in zip(names, effects, strict=True) if abs(distance) < NO_EFFECT]
    if fit.shared and not unseen:
        sentences.append("With one exponent for both, the best N and D for a budget C ~ N D both grow as C^0.5.")
    elif not unseen:
        sentences.append(
            f"For a compute budget C ~ N D the best N grows as C^{spread(found['compute_exponent'])}, 95 % interval."
        )
        sentences.append(_exponents(gap, fits["chinchilla_shared"]))
    sentences += [prediction_sentence(one, y_name, row) for one, row in zip(where, ahead, strict=True)]
    for name, (slope, distance) in zip(names, effects, strict=True):
        if name in unseen:
            sentences.append(
                f"{name} has no effect that these points show (log-log slope {slope:+.2g}, {abs(distance):.1f} standard"
                " errors): its term, its exponent and the best N for a budget mean nothing."
            )
    if "E" in fit.at_bounds:
        sentences.append("E is 0, its bound: the points show no floor.")
    others = [name for name in fit.at_bounds if name != "E"]
    if others:
        verb = "are at their bounds" if len(others) > 1 else "is at its bound"
        sentences.append(f"{', '.join(others)} {verb}: the points say only that they lie there or beyond.")
    if mine and mine.last1 < mine.surface:
        sentences.append("On the largest points, left out, repeating the last losses does better than the surface.")
    points = pd.DataFrame({"N": n, "D": d, "observed": y, "fitted": fitted, "scale": n * d})
    rows = [
        (name, f"{fits[name].objective:.6g}", f"{score.surface:.4f}" if score else "too few points")
        for name, score in held.items()
    ]
    rows.append(("last1", "", f"{mine.last1:.4f}" if mine else ""))
    note = f"RMSLE on the {mine.num_left_out if mine else 0} points of largest N D, left out. Objective: {objective}."
    tables = [
        parameter_table(found, fit.at_bounds),
        TextTable(("model", "objective", "RMSLE"), tuple(rows), note),
        *([prediction_table(where, y_name, ahead, _NEW_RUN)] if where else []),
    ]
    return Fitted(
        document,
        points.drop(columns="scale"),
        surface_figure(points, y_name, f"n = {len(y)}"),
        f"How far each of {len(y)} points lies from the surface {_FORMULA}, against N D.",
        tuple(sentences),
        tuple(tables),
    )


def _exponents(gap: dict[str, float], shared: SurfaceFit) -> str:
    """Whether the points distinguish alpha from beta."""
    if gap["low"] <= 0 <= gap["high"]:
        return (
            f"alpha - beta is {spread(gap)}: one exponent for both, {shared.surface.alpha:.4g}, is compatible with the"
            " points (--form chinchilla_shared)."
        )
    return f"alpha - beta is {spread(gap)}, so that one exponent for both does not describe the points."


def fit_budgets(at: Sequence[np.ndarray], losses: np.ndarray, weights: np.ndarray, request: Request) -> Fitted:
    """The best size for each budget of compute, and its exponent."""
    compute, size = request.x
    fit = fit_isoflop(at[0], at[1], losses, weights)
    draws = bootstrap_isoflop(fit, losses, weights, request.num_draws, request.seed)
    columns = np.column_stack([draws.exponents, np.exp(draws.log_coefficients)])
    found = intervals(("a", "G"), np.array([fit.exponent, np.exp(fit.log_coefficient)]), columns)
    low, high = np.quantile(draws.sizes, [0.025, 0.975], axis=0)
    best = {compute: fit.budgets, size: fit.sizes, "low": low, "high": high, "loss": fit.losses}
    minima = pd.DataFrame(best)
    where = places(request.predict, [compute], [fit.budgets])
    generator = np.random.default_rng([request.seed, 0x4EA5])
    ahead = []
    for one in where:
        (budget,) = one.at.values()
        drawn = np.exp(draws.log_coefficients + draws.exponents * np.log(budget))
        ahead.append(predicted(one, fit.size(budget), drawn, None, generator))
    interval = "95 % percentile, bootstrap of residuals about the parabolas"
    document: dict[str, object] = {
        "kind": "isoflop",
        "form": "isoflop",
        "formula": f"{size} = G {compute}^a at the minimum of a parabola of the loss in log {size}",
        "objective": "weighted sum of squares of the loss at each budget; of log size over budgets",
        "interval": interval,
        "parameters": found,
        "minima": minima.to_dict("records"),
        "left_out": list(fit.left_out),
        "minima_at_ends": draws.at_ends,
        "predictions": ahead,
    }
    sentences = [
        f"The best {size} grows as {compute}^{spread(found['a'])}, 95 % interval (parabolas at {len(fit.budgets)}"
        f" budgets from {fit.budgets[0]:g} to {fit.budgets[-1]:g}; n = {len(losses)} points).",
        *(prediction_sentence(one, f"the best {size}", row) for one, row in zip(where, ahead, strict=True)),
    ]
    if fit.left_out:
        sentences.append(f"Budgets left out: {'; '.join(fit.left_out)}.")
    if draws.at_ends > 0.01:
        sentences.append(
            f"In {draws.at_ends:.0%} of the draws a minimum leaves the sizes of its budget: the interval is too narrow."
            f" Add {size} on both sides."
        )
    rows = tuple(
        (f"{r[0]:g}", f"{r[1]:.4g}", f"{r[2]:.4g} to {r[3]:.4g}", f"{r[4]:.4g}") for r in minima.itertuples(index=False)
    )
    tables = [
        parameter_table(found, (), interval),
        TextTable((compute, f"best {size}", "95 % interval", "loss"), rows, "Minimum of each budget's parabola."),
        *([prediction_table(where, f"best {size}", ahead, "")] if where else []),
    ]
    points = pd.DataFrame({compute: at[0], size: at[1], "observed": losses, "fitted": fit.fitted})
    return Fitted(
        document,
        points,
        isoflop_figure(points.set_axis(["budget", "size", "observed", "fitted"], axis=1), fit.sizes, fit.losses, size),
        f"Loss of {len(losses)} points against {size}, the parabola of each budget, and its minimum.",
        tuple(sentences),
        tuple(tables),
    )


def _collected(blocks: Iterator[np.ndarray], total: int) -> np.ndarray:
    """All draws, float64 [B, 5]; on a terminal a line says how many there are."""
    found: list[np.ndarray] = []
    for block in blocks:
        found.append(block)
        if sys.stderr.isatty():
            sys.stderr.write(f"\rbootstrap: {sum(map(len, found))} of {total} draws")
            sys.stderr.flush()
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return np.concatenate(found)
