"""Numbers from q_values: the estimate of one, the advantages of steps, and the first pit of a negative.

In: counts of correct rollouts, or the q_values of a trace and the value of its problem. Out: numbers. A q_value is None
if an adaptive estimate leaves it unknown (data.adaptive_values).
"""

import math
from collections.abc import Sequence

import numpy as np


def best_of_k(num_correct: int, num_rollouts: int, k: int) -> float:
    """Unbiased chance that the best of k rollouts is correct, from num_correct of num_rollouts (Chen et al. 2021)."""
    if not 0 <= num_correct <= num_rollouts:
        raise ValueError(f"num_correct is {num_correct} of {num_rollouts} rollouts.")
    if not 1 <= k <= num_rollouts:
        raise ValueError(f"k is {k}; best-of-k needs 1 to {num_rollouts} from {num_rollouts} rollouts.")
    return 1.0 - math.comb(num_rollouts - num_correct, k) / math.comb(num_rollouts, k)


def advantages(q_values: Sequence[float | None], prompt_value: float) -> list[float]:
    """A_i = Q_i - Q_{i-1}, with the prompt's value as Q_0; they add up to Q_S - Q_0."""
    known = [q_value for q_value in q_values if q_value is not None]
    if len(known) < len(q_values):
        raise ValueError(
            "advantages need Q of every step, but an adaptive estimate leaves some unknown; set step_values.adaptive:"
            " false."
        )
    before = [prompt_value, *known[:-1]]
    return [after - earlier for after, earlier in zip(known, before, strict=True)]


def first_pit(q_values: Sequence[float | None], prompt_value: float, rule: str = "lowest") -> int:
    """Index of the first pit of a negative. A Q is None where an adaptive estimate knows it above 0, or later than a 0.

    lowest: the first step with the lowest Q (Setlur et al. 2024); in a negative, whose last Q is 0, that is the
    first step after which no rollout was correct (Self-Explore, Hwang et al. 2024, arXiv 2404.10346).
    largest_drop: the first step with the least advantage.
    """
    if not q_values:
        raise ValueError("a trace without steps has no pit.")
    if rule == "lowest":
        known = [q_value for q_value in q_values if q_value is not None]
        return int(np.argmin(known)) if len(known) == len(q_values) else q_values.index(0.0)
    if rule == "largest_drop":
        return int(np.argmin(advantages(q_values, prompt_value)))
    raise ValueError(f"pit rule {rule!r} is unknown; use 'lowest' or 'largest_drop'.")
