"""fits.json: everything a study concluded, as plain JSON for other programs; docs/results.md explains every key.

In: `Panel`s. Out: a JSON document. Infinite limits are the string "inf"; unknown values are absent, never NaN.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass

from analysis.figures.overview import error_table
from analysis.fitting.fits import Fit
from analysis.multipliers.model import Model
from analysis.multipliers.robustness import Questions
from analysis.page.wording import Wording, interval_kind, pairing
from analysis.tables.cells import Cells
from analysis.tables.printing import current
from analysis.verdicts.compute import FLOPS
from analysis.verdicts.judge import Verdict
from analysis.verdicts.panel import Panel, Question
from analysis.verdicts.study import Study

SCHEMA_VERSION = 4


def fits_document(panels: Mapping[str, Panel], question: Question, wording: Wording) -> dict[str, object]:
    """The document; one entry for each panel."""
    kinds = dict.fromkeys(interval_kind(panel.study.outcomes) for panel in panels.values())
    return {
        "schema_version": SCHEMA_VERSION,
        "interval": f"95 % percentile, {'; '.join(kinds)}",
        "bootstrap_draws": question.num_draws,
        "seed": question.seed,
        "claims": dict(question.claims),
        "problem_flops": question.problem_flops or None,
        "compare": question.compare or None,
        "labels": dict(current().labels) or None,
        "figure_width": current().width,
        "panels": {name: _panel(panel, wording, question.predict, question.seed) for name, panel in panels.items()},
    }


def dump(document: Mapping[str, object]) -> str:
    """Canonical text of a document, without what is None or NaN; dataclasses become objects."""
    return json.dumps(_plain(document), indent=1, allow_nan=False) + "\n"


def data_hash(outcomes: Cells) -> str:
    """Sixteen hex digits over every outcome with its algorithm, size and seed."""
    problems, wrong = outcomes.contents
    digest = hashlib.sha256(repr((outcomes.algorithm.tolist(), outcomes.data_size.tolist())).encode())
    digest.update(repr((outcomes.seeds, problems)).encode())
    digest.update(outcomes.present.tobytes() + wrong.tobytes())
    if outcomes.seed_group is not None:
        digest.update(repr(outcomes.seed_group.tolist()).encode())
    return digest.hexdigest()[:16]


def _panel(panel: Panel, wording: Wording, predict: Sequence[int], seed: int) -> dict[str, object]:
    study, outcomes = panel.study, panel.study.outcomes
    cells = error_table(study).rename(columns={"error_low": "low", "error_high": "high"})
    document: dict[str, object] = {
        "data_hash": data_hash(outcomes),
        "reference": study.reference,
        "base_error": panel.base_error,
        "ceiling": dict(panel.ceiling) or None,
        "flat": dict(study.flat) or None,
        "D_definition": wording.size_definition,
        "pairing": pairing(outcomes),
        "seeds": outcomes.seeds,
        "num_problems": outcomes.num_problems,
        "num_missing_runs": outcomes.num_missing,
        "refusal": study.refusal,
        "cells": cells.drop(columns="fitted", errors="ignore").to_dict("records"),
        "multipliers": study.multipliers,
        "differences": study.differences,
        "multipliers_per_flop": [item for item in panel.compute if item.currency == FLOPS],
        "verdicts": [verdict_document(item) for item in study.verdicts],
        "predictions": [one for size in predict for one in panel.predicted(size, seed)] if predict else None,
    }
    if panel.comparisons:
        document["comparisons"] = [
            {
                "reference": one.reference,
                "multipliers": one.multipliers,
                "differences": one.differences,
                "verdicts": [verdict_document(item) for item in one.verdicts],
            }
            for one in panel.comparisons
        ]
    if study.models:
        document["noise_over_luck"] = study.noise_over_luck
        document["models"] = {
            name: model_document(model, panel.questions[name]) for name, model in study.models.items()
        }
        document["ratios"] = study.ratios
        document["adjusted"] = study.adjusted
        document["monotonicity"] = monotonicity_document(study)
    return document


def verdict_document(verdict: Verdict) -> dict[str, object]:
    """A verdict as plain values; its headline as text and as numbers."""
    document, answer = asdict(verdict), verdict.answer
    del document["answer"]
    return document | {
        "claim_status": None if answer is None else answer.status,
        "claim_sentence": verdict.claim_sentence,
        "headline_text": None if verdict.headline is None else verdict.headline.text,
    }


def model_document(model: Model, asked: Questions) -> dict[str, object]:
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
        "H1": _joint_fit(model.constant, model.design.c_max),
        "H2": _joint_fit(model.varying, model.design.c_max),
        "lack_of_fit_p": {"H1": model.lack_of_fit, "H2": model.lack_of_fit_varying},
        "slopes": model.slopes,
        "forms": model.scores,
        "form_spread": model.form_spread,
        "holdout": {"scores": model.holdout.scores, "predictions": model.holdout.predictions},
        "held_out": asdict(model.held_out) | {"passed": model.held_out.passed} if model.held_out else None,
        "band": model.band,
        "comparisons": asked.comparisons,
        "variants": asked.variants,
    }


def monotonicity_document(study: Study) -> dict[str, object]:
    """The `monotonicity` entry of a panel: what more data make worse, and which error of the reference then counts."""
    return {
        "reference_levels": "running minimum" if study.best_so_far else "isotonic",
        "inversions": study.inversions,
    }


def _joint_fit(fit: Fit, c_max: float) -> dict[str, object]:
    return {
        "parameters": fit.form.natural(fit.theta[0], c_max),
        "theta": fit.theta[0].tolist(),
        "deviance": float(fit.deviance[0]),
        "objective": float(fit.objective[0]),
        "num_starts": fit.num_starts,
        "num_agree": fit.num_agree,
        "converged": bool(fit.converged[0]),
    }


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if not _is_nan(item) and item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
