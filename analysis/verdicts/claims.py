"""Claimed multipliers, and whether an interval agrees with one. Claims are data: no code mentions 2x or 8x.

In: a claim as the sweep states it, a number or "<=k", and the limits of an interval. Out: the outcome, from the limits
alone.
"""

import re
from collections.abc import Mapping
from typing import Literal

EQUIVALENCE = 1.25  # multipliers between 1 / 1.25 and 1.25 count as equal
CLEARLY = 1.5  # an interval that reaches below the claim divided by this does not support it
MAX_CONSISTENT_SPAN = 4.0  # a wider interval, by factor, is consistent with too much

ClaimOutcome = Literal[
    "consistent with",
    "not resolved",
    "exceeds",
    "about",
    "does not support",
    "supported",
    "slightly above",
]


def check_claim(claim: float | str, low: float, high: float) -> ClaimOutcome:
    """Compare a claimed multiplier, a number or "<=k", with an interval."""
    if isinstance(claim, str):
        bound = upper_bound(claim)
        if low > bound:
            return "slightly above" if high < EQUIVALENCE * bound else "does not support"
        return "supported" if high < EQUIVALENCE * bound else "not resolved"
    if low <= claim <= high:
        if max(claim, high) <= EQUIVALENCE and min(claim, low) >= 1 / EQUIVALENCE:
            return "consistent with"  # a claim of about 1 need not be distinguished from 1
        excludes_one = low > 1 or high < 1
        return "consistent with" if excludes_one and high <= MAX_CONSISTENT_SPAN * low else "not resolved"
    if low > claim:
        return "exceeds"
    return "about" if low > claim / CLEARLY else "does not support"


def is_met(outcome: ClaimOutcome) -> bool | None:
    """Whether an interval with this outcome meets the claim; None if the interval leaves that open."""
    return None if outcome == "not resolved" else outcome in ("consistent with", "supported", "exceeds")


def claim_of(algorithm: str, claims: Mapping[str, float | str]) -> float | str | None:
    """The claim about an algorithm with its settings or, without one, the claim about its name alone."""
    return claims.get(algorithm, claims.get(algorithm.partition(",")[0]))


def upper_bound(claim: str) -> float:
    """k of the claim "<=k"."""
    found = re.fullmatch(r"<=\s*(\d+(?:\.\d+)?)", claim)
    if not found:
        raise ValueError(f"the claim is {claim!r}; it is a multiplier such as 2, or an upper bound such as '<=1'.")
    return float(found.group(1))


def value_of(claim: float | str) -> float:
    """The multiplier that a claim names."""
    return upper_bound(claim) if isinstance(claim, str) else claim


def claim_text(claim: float | str) -> str:
    """A claim as text: 8x, at most 1x."""
    return f"at most {value_of(claim):g}x" if isinstance(claim, str) else f"{claim:g}x"
