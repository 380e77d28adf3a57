"""What a policy's completions look like, right or wrong: spurious steps, wrong facts, misconceptions, diversity.

In: the checks of sampled completions, n a problem. Out: fractions and means as a record holds them; one whose
denominator is nothing, such as the spurious share among no right completions, is absent. Self-training on positives may
amplify what the base policy was wrong about (Setlur et al. 2024, arXiv 2406.14532, on spurious steps): this counts it.
"""

from collections.abc import Sequence

import numpy as np

from data.problems.families import family_of
from data.records import Check
from scaling.config.problems import Problems


def describe(
    settings: Problems, checks: Sequence[Check], num_samples: int, base_seed: int | None = None
) -> dict[str, float]:
    """Numbers of the completions of a policy; num_samples of each problem, problem by problem.

    base_seed: the seed of the base policy's web text, where it had one; its fixed wrong values are the misconceptions.
    """
    right = [check for check in checks if check.reward == 1.0]
    different = _different_right(checks, num_samples)
    numbers = {"diversity": float(np.mean(different))}
    if right:
        numbers["distinct_fraction"] = sum(different) / len(right)
    if any(step.correct is None for check in checks for step in check.steps):
        return numbers  # a family whose verifier does not judge steps
    if right:
        numbers["spurious_fraction"] = float(np.mean([check.spurious_steps > 0 for check in right]))
    num_wrong = sum(check.num_wrong_facts for check in checks)
    numbers["wrong_fact_fraction"] = num_wrong / sum(len(check.steps) for check in checks)
    family = family_of(settings)
    facts = None if base_seed is None else family.web_facts(settings, base_seed)
    if facts is not None and num_wrong:
        own = sum(family.misconceptions(settings, facts, check) for check in checks)
        numbers["misconception_fraction"] = own / num_wrong
    return numbers


def _different_right(checks: Sequence[Check], num_samples: int) -> list[int]:
    """How many different right completions each problem has among its samples."""
    found = []
    for start in range(0, len(checks), num_samples):
        right = [check for check in checks[start : start + num_samples] if check.reward == 1.0]
        found.append(len({" ".join(step.text for step in check.steps) for check in right}))
    return found
