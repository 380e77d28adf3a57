"""Fit anyone's points: a one-variable curve, or the surface L(N, D), with intervals, hold-out scores and a report.

In: a table, its columns, the form. Out: fits.json, fit.csv, figures/, report.md and report.html in a directory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.curves.choice import MAX_EXTRAPOLATION, ChosenCurve, choose
from analysis.curves.laws import STEEPEST, Curve, bootstrap_curve, form_names
from analysis.curves.plots import curve_figure, surface_figure
from analysis.curves.points import NO_EFFECT, PointsError, check_falls, check_surface, read_points, slopes
from analysis.curves.surface import Loss, Surface, bootstrap_surface, fit_surface, hold_out_surface
from analysis.figures.overview import save
from analysis.page.rendering import Section, TextTable, picture, write_csv, write_report
from analysis.reporting.fits_file import SCHEMA_VERSION, dump
from scaling.engine.output import Output
from scaling.plugins import loaded_plugins

_INTERVAL = "95 % percentile, bootstrap over points"
# fits.json, the points as fitted, their figure, the conclusions and the tables of the page
_Fitted = tuple[dict[str, object], pd.DataFrame, Figure, tuple[str, ...], tuple[TextTable, ...]]
_FORMULA = "E + A / N^alpha + B / D^beta"


def fit_points(
    table: pd.DataFrame,
    name: str,
    x: Sequence[str],
    y: str,
    output: Output,
    form: str = "auto",
    loss: Loss = "huber",
    num_draws: int = 2000,
    seed: int = 0,
) -> tuple[str, ...]:
    """Write everything; the conclusions' sentences. Raises PointsError for a table that cannot be fitted."""
    known = ("auto", *form_names(), "chinchilla")
    if form not in known:
        raise PointsError(
            f"--form is {form!r}; expected one of {', '.join(known)}, or a form that a file given with --import"
            " registers."
        )
    wanted = 2 if form == "chinchilla" else 1
    if len(x) != wanted:
        cure = "name N and D, parameters and tokens" if wanted == 2 else "name one column, or give --form chinchilla"
        raise PointsError(f"--x names {len(x)} columns, and the form {form} has {wanted}; {cure}.")
    at, values = read_points(table, x, y)
    check_falls(at, x, values, y)
    digest = hashlib.sha256(np.stack([*at, values]).tobytes()).hexdigest()[:16]
    head = {"schema_version": SCHEMA_VERSION, "data_hash": digest, "x": list(x), "y": y, "num_points": len(values)}
    head |= {"interval": _INTERVAL, "bootstrap_draws": num_draws, "seed": seed}
    command = f"python -m analysis.fit {name} --x {','.join(x)} --y {y} --form {form} --draws {num_draws} --seed {seed}"
    command += "".join(f" --import {plugin.name}.py" for plugin in loaded_plugins())
    if form == "chinchilla":
        check_surface(at, x)
        document, fitted, figure, sentences, tables = _surface((at[0], at[1]), x, values, y, loss, num_draws, seed)
        command += f" --loss {loss}"
        caption = f"How far each of {len(values)} points lies from the surface {_FORMULA}, against N D."
    else:
        try:
            choice = choose(at[0], values, form)
        except ValueError as error:
            raise PointsError(str(error)) from error
        document, fitted, figure, sentences, tables = _curve(at[0], values, x[0], y, choice, num_draws, seed)
        caption = (
            f"{len(values)} points and the fit of {choice.curve.law.formula}; band: {_INTERVAL}, of the curve; dashed:"
            " extrapolated."
        )
    with output.writing() as directory:
        (directory / "figures").mkdir()
        (directory / "fits.json").write_text(dump(head | document), encoding="utf-8")
        write_csv(fitted, directory / "fit.csv")
        save(figure, directory / "figures" / "fit.png")
        origin = Section("Provenance", bullets=(f"data: {name}, hash {digest}", f"regenerate: {command} --out DIR"))
        figures = Section("Figure", figures=(picture(directory, "figures/fit.png", caption),))
        numbers = Section("Numbers", tables=tables)
        write_report(directory, f"{name}: {y}", [Section("", sentences), figures, numbers, origin])
    return sentences


def _curve(
    x: np.ndarray, y: np.ndarray, x_name: str, y_name: str, choice: ChosenCurve, num_draws: int, seed: int
) -> _Fitted:
    curve = choice.curve
    draws = bootstrap_curve(x, y, curve, num_draws, seed)
    intervals = _intervals(curve.law.parameters, curve.natural[0], draws.natural)
    grid = np.geomspace(x.min(), x.max() * MAX_EXTRAPOLATION, 121)
    line = _line(grid, curve, draws, x.max())
    ahead = _line(x.max() * np.array([1.0, 2.0, MAX_EXTRAPOLATION]), curve, draws, x.max())
    forms = [
        {
            "form": item.form,
            "formula": item.law.formula,
            "parameters": dict(zip(item.law.parameters, item.natural[0].tolist(), strict=True)),
            "rmsle": float(np.sqrt(item.mean_square[0])),
            "aicc": item.aicc,
            "num_starts": item.num_starts,
            "num_agree": item.num_agree,
            "at_bounds": list(item.at_bounds),
        }
        for item in choice.curves
    ]
    document = {
        "kind": "curve",
        "objective": "mean square of differences of log y",
        "form": curve.form,
        "chosen_by": choice.by,
        "parameters": intervals,
        "forms": forms,
        "holdout": [vars(score) for score in choice.holdout],
        "predictions": ahead.to_dict("records"),
    }
    fitted = pd.DataFrame({"x": x, "observed": y, "fitted": curve.predict(x)[0]})
    text = f"{curve.law.formula}, b = {intervals['b']['estimate']:.3g}"
    figure = curve_figure(pd.DataFrame({"x": x, "y": y}), line, x_name, y_name, text)
    tables = (
        _parameter_table(intervals, curve.at_bounds),
        _form_table(forms),
        _holdout_table(choice),
        _ahead_table(ahead, x_name, y_name),
    )
    return document, fitted, figure, _curve_sentences(choice, intervals, ahead, x, y, y_name), tables


def _curve_sentences(
    choice: ChosenCurve,
    intervals: dict[str, dict[str, float]],
    ahead: pd.DataFrame,
    x: np.ndarray,
    values: np.ndarray,
    y: str,
) -> tuple[str, ...]:
    curve = choice.curve
    others = ", ".join(item.form for item in choice.curves)
    how = "as asked" if choice.by == "request" else f"chosen by {choice.by} among {others}"
    told = ", ".join(
        f"{name} = {item['estimate']:.3g} (at its bound)" if name in curve.at_bounds else f"{name} = {_spread(item)}"
        for name, item in intervals.items()
    )
    sizes = f"n = {len(x)} points, {len(np.unique(x))} sizes from {x.min():g} to {x.max():g}"
    sentences = [f"{y} = {curve.law.formula} with {told}, 95 % intervals ({curve.form}, {how}; {sizes})."]
    row = ahead.iloc[1]
    sentences.append(
        f"At twice the largest size it gives {row['fitted']:.4g} ({row['low']:.4g} to {row['high']:.4g}), extrapolated;"
        " the interval is that of the curve in this form, without the scatter of a new point."
    )
    rounds = [score for score in choice.holdout if score.form in (curve.form, "last1")]
    mine, last = ([score.rmsle for score in rounds if score.form == name] for name in (curve.form, "last1"))
    if mine and np.mean(last[: len(mine)]) < np.mean(mine):
        sentences.append(
            "On the largest sizes, left out, repeating the last value seen does better than this form: the curve does"
            " not support extrapolation."
        )
    sentences += [_at_bound(name, curve.natural[0, 1]) for name in curve.at_bounds]
    ((slope, distance),) = slopes([x], values)
    if abs(distance) < NO_EFFECT:
        sentences.append(
            f"{y} does not change with size beyond its scatter (log-log slope {slope:+.2g}); no law shows."
        )
    if curve.num_agree < 2:
        sentences.append("Only one start found this optimum; another may be missed.")
    return tuple(sentences)


def _at_bound(name: str, b: float) -> str:
    """What it means that a parameter ends at a bound."""
    if name == "b" and b > 1:
        return f"b is at its bound of {STEEPEST:g}: the curve bends faster than power laws of data do."
    return {
        "b": "b is at its lower bound: the curve is flat.",
        "c": "c is 0, its bound: the points show no floor.",
        "d": "d is at its bound: the points do not tell where the curve starts to fall.",
    }.get(name, f"{name} is at its bound.")


def _surface(
    at: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
    y: np.ndarray,
    y_name: str,
    kind: Loss,
    num_draws: int,
    seed: int,
) -> _Fitted:
    fit = fit_surface(*at, y, kind=kind)
    draws = bootstrap_surface(*at, y, fit, num_draws, seed, kind)
    intervals = _intervals(Surface._fields, np.array(fit.surface), draws)
    exponent = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    intervals["compute_exponent"] = _intervals(("a",), np.array([fit.surface.compute_exponent]), exponent[:, None])["a"]
    held = hold_out_surface(*at, y, kind)
    fitted = pd.DataFrame(
        {"N": at[0], "D": at[1], "observed": y, "fitted": fit.surface.predict(*at), "scale": at[0] * at[1]}
    )
    objective = "sum of Huber's loss, delta 1e-3, of log loss" if kind == "huber" else "sum of squares of the loss"
    document = {
        "kind": "surface",
        "form": "chinchilla",
        "formula": _FORMULA,
        "objective": objective,
        "objective_value": fit.objective,
        "num_starts": fit.num_starts,
        "num_agree": fit.num_agree,
        "at_bounds": list(fit.at_bounds),
        "parameters": intervals,
        "holdout": held._asdict() if held else None,
    }
    surface = fit.surface
    sentences = [
        f"{y_name} = {surface.E:.4g} + {surface.A:.4g} / N^{surface.alpha:.4g} + {surface.B:.4g} / D^{surface.beta:.4g}"
        f" (n = {len(y)} points; {objective}, {fit.num_agree} of {fit.num_starts} starts agree).",
        f"For a compute budget C ~ N D the best N grows as C^{_spread(intervals['compute_exponent'])}, 95 % interval.",
    ]
    for name, (slope, distance) in zip(names, slopes(at, y), strict=True):
        if abs(distance) < NO_EFFECT:
            sentences.append(
                f"{name} has no effect that these points show (log-log slope {slope:+.2g}): its term, its exponent and"
                " the best N for a budget say nothing."
            )
    if fit.at_bounds:
        verb = "are at their bounds" if len(fit.at_bounds) > 1 else "is at its bound"
        sentences.append(f"{', '.join(fit.at_bounds)} {verb}: the points say only that they lie there or beyond.")
    if held and held.last1 < held.surface:
        sentences.append("On the largest points, left out, repeating the last losses does better than the surface.")
    rows = () if held is None else (("surface", f"{held.surface:.4f}"), ("last1", f"{held.last1:.4f}"))
    note = f"RMSLE on the {held.num_left_out if held else 0} points of largest N D, left out."
    tables = (_parameter_table(intervals, fit.at_bounds), TextTable(("prediction", "RMSLE"), rows, note))
    figure = surface_figure(fitted, y_name, f"n = {len(y)}")
    return document, fitted.drop(columns="scale"), figure, tuple(sentences), tables


def _intervals(names: Sequence[str], point: np.ndarray, draws: np.ndarray) -> dict[str, dict[str, float]]:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0).tolist()
    rows = zip(names, point.tolist(), low, high, strict=True)
    return {name: {"estimate": estimate, "low": a, "high": b} for name, estimate, a, b in rows}


def _line(x: np.ndarray, curve: Curve, draws: Curve, largest: float) -> pd.DataFrame:
    low, high = np.quantile(draws.predict(x), [0.025, 0.975], axis=0)
    fitted = curve.predict(x)[0]
    return pd.DataFrame({"x": x, "fitted": fitted, "low": low, "high": high, "extrapolated": x > largest * (1 + 1e-9)})


def _spread(item: dict[str, float]) -> str:
    return f"{item['estimate']:.4g} ({item['low']:.4g} to {item['high']:.4g})"


def _parameter_table(intervals: dict[str, dict[str, float]], at_bounds: Sequence[str]) -> TextTable:
    limits = {name: f"{i['low']:.5g} to {i['high']:.5g}" for name, i in intervals.items()}
    limits |= dict.fromkeys(at_bounds, "at its bound")
    rows = ((name, f"{i['estimate']:.5g}", limits[name]) for name, i in intervals.items())
    return TextTable(("parameter", "estimate", "95 % interval"), tuple(rows), f"Intervals: {_INTERVAL}.")


def _form_table(forms: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = tuple(
        (i["form"], i["formula"], f"{i['rmsle']:.5f}", f"{i['aicc']:.1f}", f"{i['num_agree']} of {i['num_starts']}")
        for i in forms
    )
    return TextTable(("form", "formula", "RMSLE", "AICc", "starts that agree"), rows, "On the points fitted.")


def _holdout_table(choice: ChosenCurve) -> TextTable:
    rows = tuple((s.form, str(s.num_left_out), str(s.num_points), f"{s.rmsle:.4f}") for s in choice.holdout)
    note = "The largest sizes predicted from the rest; last1 repeats the last value seen."
    return TextTable(("form", "sizes left out", "points", "RMSLE"), rows, note)


def _ahead_table(ahead: pd.DataFrame, x: str, y: str) -> TextTable:
    rows = tuple(
        (f"{r.x:g}", f"{r.fitted:.4g}", f"{r.low:.4g} to {r.high:.4g}", "yes" if r.extrapolated else "no")
        for r in ahead.itertuples()
    )
    note = f"Nothing is predicted beyond {MAX_EXTRAPOLATION:g} times the largest size."
    return TextTable((x, f"{y}, predicted", "95 % interval of the curve", "extrapolated"), rows, note)
