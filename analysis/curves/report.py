"""Fit anyone's points: a curve, the surface L(N, D), isoFLOP minima, or pass@k, with intervals and a report.

In: a table and a `Request`. Out: fits.json, fit.csv, figures/, report.md and report.html in a directory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.choice import MAX_EXTRAPOLATION, ChosenCurve, choose, half_budget
from analysis.curves.laws import LAWS, STEEPEST, Curve, bootstrap_curve, form_names, refit_curve
from analysis.curves.numbers import (
    INTERVAL,
    Fitted,
    Scatter,
    intervals,
    joint_region,
    parameter_table,
    place,
    places,
    predicted,
    prediction_sentence,
    prediction_table,
    scatter,
    spread,
)
from analysis.curves.plots import curve_figure
from analysis.curves.points import (
    NO_EFFECT,
    PointsError,
    Request,
    before_turning,
    check_falls,
    is_flat,
    passes,
    read_counts,
    read_points,
    slopes,
)
from analysis.curves.surface import SURFACES
from analysis.curves.surface_report import fit_budgets, fit_losses
from analysis.figures.overview import save
from analysis.page.rendering import Section, TextTable, picture, write_csv, write_report
from analysis.reporting.fits_file import SCHEMA_VERSION, dump
from scaling.engine.output import Output

_OVER_PROBLEMS = "95 % percentile, bootstrap over problems"


def fit_points(table: pd.DataFrame, name: str, request: Request, output: Output) -> tuple[str, ...]:
    """Write everything; returns the conclusions' sentences. Raises PointsError for a table that cannot be fitted."""
    known = ("auto", *form_names(), *SURFACES, "isoflop")
    if request.form not in known:
        raise PointsError(
            f"--form is {request.form!r}; expected one of {', '.join(known)}, or a form that a file given with --import"
            " registers."
        )
    if request.y is None:
        columns, fitted, y = _passes(table, request)
    else:
        columns, fitted = _points(table, request, request.y)
        y = request.y
    digest = hashlib.sha256(np.stack(columns).tobytes()).hexdigest()[:16]
    head = {"schema_version": SCHEMA_VERSION, "data_hash": digest, "x": list(request.x), "y": y}
    head |= {"num_points": len(columns[0]), "interval": INTERVAL, "weights": request.weights}
    head |= {"bootstrap_draws": request.num_draws, "seed": request.seed}
    with output.writing() as directory:
        (directory / "figures").mkdir()
        (directory / "fits.json").write_text(dump(head | fitted.document), encoding="utf-8")
        write_csv(fitted.points, directory / "fit.csv")
        save(fitted.figure, directory / "figures" / "fit.png")
        regenerate = f"regenerate: {request.command(name)} --out DIR"
        origin = Section("Provenance", bullets=(f"data: {name}, hash {digest}", regenerate))
        figures = Section("Figure", figures=(picture(directory, "figures/fit.png", fitted.caption),))
        numbers = Section("Numbers", tables=fitted.tables)
        write_report(directory, f"{name}: {y}", [Section("", fitted.sentences), figures, numbers, origin])
    return fitted.sentences


def _points(table: pd.DataFrame, request: Request, y: str) -> tuple[list[np.ndarray], Fitted]:
    """The columns read, and what is fitted to them."""
    x, form = request.x, request.form
    wanted = 2 if form in (*SURFACES, "isoflop") else 1
    if len(x) != wanted:
        two = "compute and N, or compute and D" if form == "isoflop" else "N and D, parameters and tokens"
        cure = f"name {two}" if wanted == 2 else "name one column, or give --form chinchilla or isoflop"
        raise PointsError(f"--x names {len(x)} columns, and the form {form} has {wanted}; {cure}.")
    at, values, weights = read_points(table, x, y, request.weights)
    columns = [*at, values, *([] if request.weights is None else [weights])]
    if form == "isoflop":
        check_falls(at[:1], x[:1], values, y)
        return columns, fit_budgets(at, values, weights, request)
    falling = before_turning(at[0], values) if form == "bnsl1" else slice(None)  # its break may turn a curve upwards
    check_falls([column[falling] for column in at], x, values[falling], y)
    where = places(request.predict, x, at)
    if form in SURFACES:
        return columns, fit_losses(at, values, y, weights, where, request)
    try:
        choice = choose(at[0], values, form, weights)
    except ValueError as error:  # of numpy or of a form from outside too
        raise PointsError(str(error)) from error
    curve = choice.curve
    draws = bootstrap_curve(at[0], values, curve, request.num_draws, request.seed, weights)
    about = scatter(values, curve.predict(at[0])[0], weights, curve.theta.shape[1])
    return columns, _curve(at[0], values, (x[0], y), choice, draws, about, request, INTERVAL, weights)


def _passes(table: pd.DataFrame, request: Request) -> tuple[list[np.ndarray], Fitted, str]:
    num_samples, num_correct = read_counts(table, request.x)
    if request.form not in ("auto", *form_names()):
        raise PointsError(
            f"--form is {request.form}, and pass@k is a curve of k: give auto, {', '.join(form_names())}."
        )
    found = passes(num_samples, num_correct, request.num_draws, request.seed)
    if len(found.k) > 1 and is_flat(found.error):
        raise PointsError(
            "pass@k is the same at every k, because each problem is always solved or never, so that there is no curve."
            " Draw more samples of each problem."
        )
    try:
        choice = choose(found.k, found.error, request.form)
    except PointsError as error:
        cure = f"{error} The sizes are k = 1, 2, 4 ... up to {num_samples.min():g}, the fewest samples of a problem."
        raise PointsError(cure) from error
    kept = found.draws > 0  # where a draw has no error left at some k, there is no logarithm
    draws = refit_curve(found.k, np.where(kept, found.draws, 1.0), choice.curve, kept / len(found.k))
    name = "1 - pass@k"
    fitted = _curve(found.k, found.error, ("k", name), choice, draws, None, request, _OVER_PROBLEMS)
    low, high = np.quantile(found.draws, [0.025, 0.975], axis=0)
    at_k = {"k": found.k, "pass_at_k": 1 - found.error, "low": 1 - high, "high": 1 - low}
    rows = tuple((f"{k:g}", f"{p:.4g}", f"{a:.4g} to {b:.4g}") for k, p, a, b in zip(*at_k.values(), strict=True))
    note = f"Unbiased (Chen et al. 2021), mean over {found.num_problems} problems; intervals: {_OVER_PROBLEMS}."
    shown = TextTable(("k", "pass@k", "95 % interval"), rows, note)
    document = fitted.document | {"num_problems": found.num_problems, "interval": _OVER_PROBLEMS}
    document |= {"kind": "pass_at_k", "pass_at_k": pd.DataFrame(at_k).to_dict("records")}
    at_ends = (f"{k:g} is {1 - e:.3g}" for k, e in ((found.k[0], found.error[0]), (found.k[-1], found.error[-1])))
    first = f"pass@{' and pass@'.join(at_ends)}, over {found.num_problems} problems."
    fitted = fitted._replace(document=document, sentences=(first, *fitted.sentences), tables=(shown, *fitted.tables))
    return [num_samples, num_correct], fitted, name


def _curve(
    x: np.ndarray,
    y: np.ndarray,
    names: tuple[str, str],
    choice: ChosenCurve,
    draws: Curve,
    about: Scatter | None,
    request: Request,
    interval: str,
    weights: np.ndarray | None = None,
) -> Fitted:
    curve, law = choice.curve, choice.curve.law
    found = intervals(law.parameters, curve.natural[0], draws.natural)
    grid = np.geomspace(x.min(), x.max() * MAX_EXTRAPOLATION, 121)
    where = [place({names[0]: float(x.max() * times)}, names[:1], [x]) for times in (1.0, 2.0, MAX_EXTRAPOLATION)]
    where += places(request.predict, names[:1], [x])
    generator = np.random.default_rng([request.seed, 0x4EA5])
    ahead = []
    for one in where:
        (at,) = one.at.values()
        values = np.array([item.predict(np.array([at]))[0, 0] for item in choice.curves])
        row = predicted(one, curve.predict(np.array([at]))[0, 0], draws.predict(np.array([at]))[:, 0], about, generator)
        ahead.append(row | {"x": at, "forms_low": float(values.min()), "forms_high": float(values.max())})
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
    half = half_budget(x, y, curve, weights)
    c_and_b = [list(law.parameters).index(name) for name in ("c", "b")] if {"c", "b"} <= set(law.parameters) else []
    region = joint_region(*draws.natural[:, c_and_b].T) if c_and_b else None
    document: dict[str, object] = {
        "kind": "curve",
        "objective": "weighted mean square of differences of log y",
        "form": curve.form,
        "chosen_by": choice.by,
        "parameters": found,
        "at_bounds": list(curve.at_bounds),
        "forms": forms,
        "holdout": [vars(score) for score in choice.holdout],
        "half_budget": half._asdict() if half else None,
        "joint_region": region._asdict() if region else None,
        "predictions": ahead,
    }
    text = f"{law.formula}, b = {curve.natural[0, 1]:.3g}"
    note = (
        "95 % interval: of the curve in this form; of a new run: with the scatter of a point. Without a"
        f" request, nothing is predicted beyond {MAX_EXTRAPOLATION:g} times the largest size."
    )
    tables = (
        parameter_table(found, curve.at_bounds, interval),
        _form_table(forms),
        _holdout_table(choice),
        prediction_table(where, names[1], ahead, note),
    )
    sentences = _curve_sentences(choice, found, x, y, names[1])
    open_ended = [name for name in draws.often_at_bounds if name not in (*curve.at_bounds, "c")]
    if open_ended:
        sentences.append(
            f"The interval of {', '.join(open_ended)} ends at a bound of the search: the points do not limit it there."
        )
    said = (1, *range(3, len(where)))  # at twice the largest size, and where the user asks
    if region is not None:
        sentences.insert(1, f"Asymptote and steepness together, 95 %: {region}.")
    if half is not None:
        sentences.append(
            f"Fitted to sizes up to half of the largest, it misses the {half.num_points} others by {half.rmsle:.3g}"
            f" (RMSLE; the last value repeated: {half.last1:.3g}) and puts c at {half.asymptote:.3g}, against"
            f" {half.asymptote_of_all:.3g} from all."
        )
    sentences[1:1] = [prediction_sentence(where[index], names[1], ahead[index]) for index in said]
    return Fitted(
        document,
        pd.DataFrame({"x": x, "observed": y, "fitted": curve.predict(x)[0]}),
        curve_figure(pd.DataFrame({"x": x, "y": y}), _line(grid, curve, draws, x.max()), *names, text),
        f"{len(y)} points and the fit of {law.formula}; band: {interval}, of the curve; dashed: extrapolated.",
        tuple(sentences),
        tables,
    )


def _curve_sentences(
    choice: ChosenCurve, found: Mapping[str, Mapping[str, float]], x: np.ndarray, values: np.ndarray, y: str
) -> list[str]:
    curve = choice.curve
    others = ", ".join(item.form for item in choice.curves)
    how = "as asked" if choice.by == "request" else f"chosen by {choice.by} among {others}"
    numbers = ", ".join(
        f"{name} = {item['estimate']:.3g} (at its bound)" if name in curve.at_bounds else f"{name} = {spread(item)}"
        for name, item in found.items()
    )
    sizes = f"n = {len(x)} points, {len(np.unique(x))} sizes from {x.min():g} to {x.max():g}"
    sentences = [f"{y} = {curve.law.formula} with {numbers}, 95 % intervals ({curve.form}, {how}; {sizes})."]
    rounds = [score for score in choice.holdout if score.form in (curve.form, "last1")]
    mine, last = ([score.rmsle for score in rounds if score.form == name] for name in (curve.form, "last1"))
    if mine and np.mean(last[: len(mine)]) < np.mean(mine):
        sentences.append(
            "On the largest sizes, left out, repeating the last value seen does better than this form: the curve does"
            " not support extrapolation."
        )
    sentences += [_at_bound(name, curve) for name in curve.at_bounds]
    sentences += _not_identified(curve.form, found, x)
    ((slope, distance),) = slopes([x], values)
    if abs(distance) < NO_EFFECT:
        sentences.append(
            f"{y} does not change with size beyond its scatter (log-log slope {slope:+.2g}); no law shows."
        )
    if curve.num_agree < 2:
        sentences.append("Only one start found this optimum; another may be missed.")
    return sentences


def _at_bound(name: str, curve: Curve) -> str:
    """What a parameter at its bound means."""
    if curve.form not in LAWS:
        return f"{name} is at its bound."
    if name == "b" and curve.natural[0, 1] > 1:
        return f"b is at its bound of {STEEPEST:g}: the curve bends faster than power laws of data do."
    return {
        "b": f"b is at its lower bound: the curve is flat{' before the break' if curve.form == 'bnsl1' else ''}.",
        "c": "c is 0, its bound: the points show no floor.",
        "d": "d is at its bound: the points do not show where the curve bends.",
        "x_mid": "x_mid is at its bound: the points do not show where the curve starts to fall.",
        "c1": "c1 is at its bound: the points do not show how much the exponent changes at the break.",
        "f": "f is at its bound: the points do not show how sharp the break is.",
    }.get(name, f"{name} is at its bound.")


def _not_identified(form: str, found: Mapping[str, Mapping[str, float]], x: np.ndarray) -> list[str]:
    """Sentences on parameters that lack points on one side of a bend."""
    if form == "hill" and found["x_mid"]["estimate"] > x.max():
        return ["x_mid lies beyond the largest size: the points do not reach the middle of the fall; c is a guess."]
    if form == "hill" and found["x_mid"]["estimate"] < x.min():
        return ["x_mid lies below the smallest size: the points do not show the start of the fall; e0 is a guess."]
    if form == "bnsl1" and not x.min() < found["d"]["estimate"] < x.max():
        return ["The break d lies outside of the sizes: the points show no break."]
    return []


def _line(x: np.ndarray, curve: Curve, draws: Curve, largest: float) -> pd.DataFrame:
    low, high = np.quantile(draws.predict(x), [0.025, 0.975], axis=0)
    fitted = curve.predict(x)[0]
    return pd.DataFrame({"x": x, "fitted": fitted, "low": low, "high": high, "extrapolated": x > largest * (1 + 1e-9)})


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
