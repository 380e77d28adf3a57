"""What fits.json holds beyond the joint fit itself: everything that questions it, as plain JSON.

In: a `Study`. Out: dicts; docs/results.md explains every key.
"""

from dataclasses import asdict

from analysis.multipliers.model import Model
from analysis.verdicts.study import Study


def questions_document(model: Model) -> dict:
    """Keys for the `model` entry of a panel."""
    return {
        "selection": model.selection,
        "num_cells_used": int(model.used.sum()),
        "comparisons": [asdict(item) for item in model.comparisons],
        "holdout": {
            "scores": [asdict(item) for item in model.holdout.scores],
            "predictions": [asdict(item) for item in model.holdout.predictions],
        },
        "held_out": [asdict(item) | {"passed": item.passed} for item in model.held_out],
        "form_spread": {name: list(model.form_spread(name)) for name in model.arms[1:]},
        "variants": [{"name": item.name, "multipliers": dict(item.multipliers)} for item in model.variants],
        "ratios": [asdict(item) for item in model.ratios],
        "more_than_one": [asdict(item) for item in model.more_than_one],
        "bands": [
            {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(item).items()}
            for item in model.bands
        ],
    }


def monotonicity_document(study: Study) -> dict:
    """The `monotonicity` entry of a panel: who gets worse with more data, and how the reference then counts."""
    return {
        "reference_levels": "running minimum" if study.best_so_far else "isotonic",
        "inversions": [
            {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(item).items()}
            for item in study.inversions
        ],
    }
