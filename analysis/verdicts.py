"""Verdicts: for each algorithm one code and one plain sentence, and for each claim whether the data agree.

In: `Evidence`, finished numbers. Out: `Verdict`. The conditions are tried in a fixed order and the last one is always
true, so exactly one applies to every input.
"""

import math
from dataclasses import dataclass
from typing import Literal

from analysis.claims import EQUIVALENCE, ClaimOutcome, check_claim, claim_text, upper_bound

Code = Literal[
    "NOT_ESTIMABLE",
    "INVERSE",
    "LOWER_BOUND",
    "UPPER_BOUND",
    "VARIES",
    "CONTRADICTED",
    "SUPPORTED",
    "NULL",
    "DIRECTION_ONLY",
    "NOT_RESOLVED",
]
REJECTED = 0.05


@dataclass(frozen=True)
class Evidence:
    """What is known of one algorithm against the reference. Multipliers are ratios of data sizes, errors fractions."""

    algorithm: str
    reference: str
    not_estimable: str | None = None  # why there is no multiplier with an interval; then nothing below is used
    num_seeds: int = 0
    num_problems: int = 0
    sizes: tuple[int, int] = (0, 0)  # smallest and largest data size of the algorithm
    largest_reference: int = 0
    multiplier: float = math.nan
    low: float = math.nan
    high: float = math.nan
    right_censored: float = 0.0  # share of the algorithm's cells below every error of the reference
    left_censored: float = 0.0  # share of its cells above every error of the reference
    at_least: float = math.nan  # largest bound that a right-censored cell supports
    at_most: float = math.nan  # smallest bound that a left-censored cell supports
    mean: tuple[float, float, float] | None = None  # form-free mean multiplier with its interval, where sizes overlap
    lack_of_fit: float = 1.0  # p of the constant multiplier
    lack_of_fit_varying: float = 1.0  # p of the multiplier that varies with D
    delta: tuple[float, float, float] = (0.0, 0.0, 0.0)  # slope of log m in log D, with its interval
    ends: tuple[float, float] = (math.nan, math.nan)  # m at both ends of the sizes when it varies
    form_spread: tuple[float, float] = (math.nan, math.nan)  # m under every other form that fits about as well
    difference: tuple[float, float, float] = (0.0, 0.0, 0.0)  # paired difference in error, with its interval
    rise: tuple[float, float, float] = (0.0, 0.0, 0.0)  # error at the largest size minus the best before

    @property
    def forms_agree(self) -> bool:
        """Whether the joint fit's interval meets the form-free mean's."""
        return self.mean is None or (self.low <= self.mean[2] and self.mean[1] <= self.high)

    @property
    def one_number(self) -> bool:
        """Whether a constant multiplier describes the curves."""
        return self.lack_of_fit >= REJECTED and self.forms_agree


@dataclass(frozen=True)
class Verdict:
    """The conclusion on one algorithm."""

    algorithm: str
    code: Code
    sentence: str
    claim: str | None  # as the sweep states it
    claim_sentence: str | None


def verdict(evidence: Evidence, claim: float | str | None = None) -> Verdict:
    """The first condition that holds decides."""
    outcome = None if claim is None or evidence.not_estimable else check_claim(claim, evidence.low, evidence.high)
    code = _code(evidence, outcome)
    sentence = _sentence(code, evidence, claim)
    return Verdict(
        evidence.algorithm,
        code,
        sentence,
        None if claim is None else claim_text(claim),
        None if claim is None else _claim_sentence(claim, outcome, code, evidence),
    )


def _code(e: Evidence, outcome: ClaimOutcome | None) -> Code:
    if e.not_estimable:
        return "NOT_ESTIMABLE"
    if e.rise[1] > 0:
        return "INVERSE"
    if e.right_censored > 0.5:
        return "LOWER_BOUND"
    if e.left_censored > 0.5:
        return "UPPER_BOUND"
    if (e.delta[1] > 0 or e.delta[2] < 0) and e.lack_of_fit_varying >= REJECTED:
        return "VARIES"
    if e.one_number and outcome == "does not support":
        return "CONTRADICTED"
    spread_inside = not (e.form_spread[0] < e.low or e.form_spread[1] > e.high)
    if e.one_number and spread_inside and (e.low > 1 or e.high < 1):
        return "SUPPORTED"
    if e.one_number and e.low >= 1 / EQUIVALENCE and e.high <= EQUIVALENCE:
        return "NULL"
    if e.difference[2] < 0 or e.difference[1] > 0:
        return "DIRECTION_ONLY"
    return "NOT_RESOLVED"


def _sentence(code: Code, e: Evidence, claim: float | str | None) -> str:
    name, reference = label(e.algorithm), label(e.reference)
    interval = f"95 % interval {number(e.low)} to {number(e.high)}"
    base = f"D {e.sizes[0]:,} to {e.sizes[1]:,}; {e.num_seeds} seeds, {e.num_problems:,} problems"
    if code == "NOT_ESTIMABLE":
        return f"{name}: no multiplier can be estimated, because {e.not_estimable}"
    if code == "INVERSE":
        return (
            f"{name}: more data raised its error, by {points(e.rise[0])} at D = {e.sizes[1]:,} over its best smaller"
            f" size (at least {points(e.rise[1])}); no power law describes it."
        )
    if code == "LOWER_BOUND":
        return (
            f"{name}: at least {number(e.at_least)}x. At most of its sizes its error is below that of {reference} on"
            f" all {e.largest_reference:,} problems, so more {reference} data are needed to say how much."
        )
    if code == "UPPER_BOUND":
        return (
            f"{name}: at most {number(e.at_most)}x. At most of its sizes its error is above that of {reference} on the"
            f" fewest problems measured ({base})."
        )
    if code == "VARIES":
        return (
            f"{name}: its multiplier changes from {number(e.ends[0])} at D = {e.sizes[0]:,} to {number(e.ends[1])} at"
            f" D = {e.sizes[1]:,} (slope of log m in log D {e.delta[0]:+.2f}, {e.delta[1]:+.2f} to {e.delta[2]:+.2f});"
            " no single number describes it."
        )
    if code == "CONTRADICTED":
        assert claim is not None
        return (
            f"{name}: the claimed {claim_text(claim)} is outside of what the data allow: {number(e.multiplier)}x"
            f" ({interval}; {base})."
        )
    if code == "SUPPORTED":
        return f"{name} matches {reference} trained on {number(e.multiplier)}x as many problems ({interval}; {base})."
    if code == "NULL":
        return f"{name} is equivalent to {reference} within 25 %: {number(e.multiplier)}x ({interval}; {base})."
    if code == "DIRECTION_ONLY":
        direction = "lower" if e.difference[0] < 0 else "higher"
        nearest, farthest = sorted(abs(limit) for limit in e.difference[1:])
        why = (
            "the interval of the multiplier includes 1"
            if e.low <= 1 <= e.high
            else "no multiplier fits the curves under the forms tried"
            if e.lack_of_fit < REJECTED
            else "the joint fit and the form-free estimate disagree"
            if not e.forms_agree
            else "it depends on the form of the curve"
        )
        return (
            f"{name}: {direction} error than {reference} by {points(abs(e.difference[0]))}"
            f" ({points(nearest)} to {points(farthest)}), but how much data that is worth is not determined: {why}"
            f" ({number(e.multiplier)}x, {interval})." + _form_free(e)
        )
    return (
        f"{name}: not resolved; compatible with {number(e.low)}x to {number(e.high)}x the data of {reference} ({base})."
    )


def _form_free(e: Evidence) -> str:
    if e.mean is None:
        return ""
    mean, low, high = e.mean
    return f" Without a form, the mean over sizes is {number(mean)}x ({number(low)} to {number(high)})."


def _claim_sentence(claim: float | str, outcome: ClaimOutcome | None, code: Code, e: Evidence) -> str:
    text = claim_text(claim)
    if outcome is None or code in ("NOT_ESTIMABLE", "INVERSE"):
        return f"The claim of {text} cannot be tested."
    if code == "LOWER_BOUND":
        bound = upper_bound(claim) if isinstance(claim, str) else claim
        verb = "are above" if e.at_least > bound else "do not decide"
        return f"The data {verb} the claim of {text}: only a lower bound is known."
    if code == "UPPER_BOUND":
        if isinstance(claim, str):
            agrees = e.at_most < EQUIVALENCE * upper_bound(claim)
            verb = "support" if agrees else "do not decide"
        else:
            verb = "do not support" if e.at_most < claim else "do not decide"
        return f"The data {verb} the claim of {text}: only an upper bound is known."
    if code == "VARIES":
        low, high = sorted(e.ends)
        where = "inside" if not isinstance(claim, str) and low <= claim <= high else "outside"
        if isinstance(claim, str):
            where = "met by" if high <= EQUIVALENCE * upper_bound(claim) else "not met by all of"
            return f"The claim of {text} is {where} the range of its multiplier."
        return f"The claim of {text} is {where} the range that its multiplier runs through; as one number it fails."
    if not e.one_number:
        return f"The claim of {text} is about one number for all sizes, which these data do not give."
    return {
        "consistent with": f"The data are consistent with {text}.",
        "not resolved": f"Whether it is {text} is not resolved.",
        "exceeds": f"The data exceed the claim of {text}.",
        "about": f"The data are a little below the claim of {text}, within a factor of 1.5.",
        "does not support": f"The data do not support the claim of {text}.",
        "supported": f"The data support the claim of {text}.",
        "slightly above": f"It is above the claim of {text}, by less than 25 %.",
    }[outcome]


_LABELS = {"sft": "SFT", "rft": "RFT", "dpo": "DPO", "step_dpo": "Per-step DPO", "step_rft": "Step RFT"}


def label(algorithm: str) -> str:
    """An algorithm's name for readers; settings that follow it are kept."""
    name, comma, rest = algorithm.partition(",")
    return _LABELS.get(name, name) + comma + rest


def number(value: float) -> str:
    """A multiplier with two or three digits, never rounded to a power of two."""
    if math.isinf(value):
        return "unbounded"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def points(value: float) -> str:
    """A difference in error in percentage points."""
    return f"{100 * value:.1f} pp"
