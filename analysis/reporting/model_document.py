"""What fits.json holds of a joint fit and of everything that questions it, as plain JSON.

In: a `Model` with its `Questions`, or a `Study`. Out: dicts; docs/results.md explains every key.
"""

from dataclasses import asdict

from analysis.fitting.fits import Fit
from analysis.multipliers.model import Model
from analysis.multipliers.questions import Questions
from analysis.verdicts.study import Study


def model_document(model: Model, asked: Questions) -> dict:
    """The entry of one algorithm in `models`."""
    estimate, low, high = model.multiplier
    return {
        "form": model.constant.form.name,
        "formula": model.constant.form.formula,
        "selection": model.selection,
        "objective": "binomial quasi-deviance of cell means",
        "c_max": model.design.c_max,
        "log_center": model.design.log_center,
        "weights": model.design.weight.tolist(),
        "num_cells_used": int(model.used.sum()),
        "multiplier": {"estimate": estimate, "low": low, "high": high},
        "H1": _fit(model.constant, model.design.c_max),
        "H2": _fit(model.varying, model.design.c_max),
        "lack_of_fit_p": {"H1": model.lack_of_fit, "H2": model.lack_of_fit_varying},
        "slopes": [asdict(item) for item in model.slopes],
        "forms": [asdict(item) for item in model.scores],
        "form_spread": list(model.form_spread),
        "holdout": {
            "scores": [asdict(item) for item in model.holdout.scores],
            "predictions": [asdict(item) for item in model.holdout.predictions],
        },
        "held_out": asdict(model.held_out) | {"passed": model.held_out.passed} if model.held_out else None,
        "band": _listed(asdict(model.band)),
        "comparisons": [asdict(item) for item in asked.comparisons],
        "variants": [asdict(item) for item in asked.variants],
    }


def monotonicity_document(study: Study) -> dict:
    """The `monotonicity` entry of a panel: who gets worse with more data, and how the reference then counts."""
    return {
        "reference_levels": "running minimum" if study.best_so_far else "isotonic",
        "inversions": [_listed(asdict(item)) for item in study.inversions],
    }


def _listed(record: dict) -> dict:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}


def _fit(fit: Fit, c_max: float) -> dict:
    return {
        "parameters": fit.form.natural(fit.theta[0], c_max),
        "theta": fit.theta[0].tolist(),
        "deviance": float(fit.deviance[0]),
        "objective": float(fit.objective[0]),
        "num_starts": fit.num_starts,
        "num_agree": fit.num_agree,
        "converged": bool(fit.converged[0]),
    }
