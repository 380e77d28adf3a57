"""What questions the joint fit of an algorithm and its reference: larger models, and other ways of fitting.

In: a `Model`. Out: `Questions`, which reports show and no verdict depends on.
"""

from dataclasses import dataclass

from analysis.multipliers.hierarchy import Comparison, compare_models
from analysis.multipliers.model import Model
from analysis.multipliers.robustness import Variant, variants


@dataclass(frozen=True)
class Questions:
    """Of one algorithm."""

    comparisons: tuple[Comparison, ...]  # H0 to H4
    variants: tuple[Variant, ...]  # other ways of fitting H1


def questions(model: Model) -> Questions:
    """Ask them."""
    return Questions(
        compare_models(model.design, model.errors, model.draws, model.constant),
        variants(model.design, model.errors, model.constant),
    )
