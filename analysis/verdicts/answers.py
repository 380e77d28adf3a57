"""What the data say about a claim: met, not met, or why that is open. The verdict beside it is about m.

In: a claim, `Evidence` and the headline. Out: `Answer`. One number decides if it is given. Otherwise
m at every size decides, by limits that hold at all sizes at once.
"""

import math
from dataclasses import dataclass
from typing import Literal

from analysis.verdicts.claims import CLEARLY, EQUIVALENCE, check_claim, is_met, value_of
from analysis.verdicts.evidence import Code, Evidence
from analysis.verdicts.headline import Headline, number

Status = Literal["met", "not met", "depends on D", "not decided", "cannot be tested"]
_MOST_LISTED = 4  # data sizes


@dataclass(frozen=True)
class Answer:
    """The status of a claim, and the numbers behind it."""

    status: Status
    reason: str

    @property
    def text(self) -> str:
        """The answer as tables show it, such as: not met: 1.44 is below 2."""
        return f"{self.status}: {self.reason}"

    def sentence(self, claim: str) -> str:
        """claim: as text, such as 2x."""
        verb = "" if self.status in ("depends on D", "cannot be tested") else "is "
        return f"The claim of {claim} {verb}{self.text}."

    @property
    def is_met(self) -> bool | None:
        """None if the data leave it open."""
        return {"met": True, "not met": False}.get(self.status)


def answer(claim: float | str, code: Code, e: Evidence, given: Headline | None) -> Answer:
    """The answer to a claim, a number or "<=k", from the same numbers as the headline that is given."""
    if e.out_of_range(value_of(claim)):
        assert e.ceiling is not None
        return Answer("cannot be tested", f"no learner of these problems could be worth more than {number(e.ceiling)}x")
    if code == "INVERSE":
        return Answer("cannot be tested", "more data raised the error")
    if given is None:
        why = "no multiplier can be estimated" if e.in_reach else "that takes more data of the reference"
        return Answer("cannot be tested", why)
    if given.kind == "one number":
        return _by_number(claim, code, e)
    return _by_sizes(claim, e) if given.kind == "sizes" else _by_bound(claim, code, e)


def _by_number(claim: float | str, code: Code, e: Evidence) -> Answer:
    low, high = e.quoted
    m, k, outcome = number(e.multiplier), f"{value_of(claim):g}", check_claim(claim, low, high)
    clearly = outcome == "does not support" and (isinstance(claim, str) or high < value_of(claim) / CLEARLY)
    if e.held_out is False and code != "NULL" and not clearly:
        return Answer("not decided", "the other sizes do not predict the error at the largest size")
    limits = f"{number(low)} to {number(high)}"
    if outcome == "not resolved":
        if isinstance(claim, str):
            reason = f"{limits} reaches beyond {EQUIVALENCE * value_of(claim):g}"
        elif low <= 1 <= high and value_of(claim) != 1:
            reason = f"{limits} holds both {k} and 1"
        else:
            reason = f"{limits} holds {k} but is too wide"
        return Answer("not decided", reason)
    reasons = {
        "consistent with": f"{limits} holds {k}",
        "exceeds": f"{m} is above {k}",
        "about": f"{m} is below {k}, within a factor of 1.5",
        "does not support": f"{m} is {'above' if isinstance(claim, str) else 'below'} {k}",
        "supported": f"the upper limit, {number(high)}, is below {EQUIVALENCE * value_of(claim):g}",
        "slightly above": f"{m} is above {k}, by less than 25 %",
    }
    return Answer("met" if is_met(outcome) else "not met", reasons[outcome])


def _by_sizes(claim: float | str, e: Evidence) -> Answer:
    """Met or not met if limits for all sizes at once show it for every size."""
    outcomes = [is_met(check_claim(claim, low, high)) for _, low, high in e.at_sizes]
    met, unmet, open_ = (
        [size for size, found in zip(e.sizes, outcomes, strict=True) if found is kind] for kind in (True, False, None)
    )
    if met and unmet:
        return Answer("depends on D", f"m agrees with it at {_listed(met)}, not at {_listed(unmet)}")
    if open_:
        return Answer("not decided", f"the limits of m at {_listed(open_)} leave it open")
    low, high = min(low for _, low, _ in e.at_sizes), max(high for _, _, high in e.at_sizes)
    where = f"m at D = {e.sizes[0]:,}" if len(e.sizes) == 1 else "m at every size"
    if isinstance(claim, str) is bool(met):  # an upper bound that is met, or a multiplier that is not reached
        return Answer("met" if met else "not met", f"{where} is at most {number(high)}")
    upper = "" if unmet or math.isinf(high) else f" and at most {number(high)}"
    return Answer("met" if met else "not met", f"{where} is at least {number(low)}{upper}")


def _by_bound(claim: float | str, code: Code, e: Evidence) -> Answer:
    k = value_of(claim)
    if code == "LOWER_BOUND" and e.at_least > k:
        return Answer("not met" if isinstance(claim, str) else "met", f"at least {number(e.at_least)} is above {k:g}")
    if code == "UPPER_BOUND" and e.at_most < (EQUIVALENCE * k if isinstance(claim, str) else k):
        return Answer("met" if isinstance(claim, str) else "not met", f"m is at most {number(e.at_most)}")
    kind, bound = ("lower", e.at_least) if code == "LOWER_BOUND" else ("upper", e.at_most)
    return Answer("not decided", f"only the {kind} bound of {number(bound)} is known")


def _listed(sizes: list[int]) -> str:
    return f"D = {', '.join(f'{size:,}' for size in sizes)}" if len(sizes) <= _MOST_LISTED else f"{len(sizes)} sizes"
