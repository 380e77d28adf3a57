"""Verdicts: for each algorithm one code and one plain sentence, which say whether its multiplier is determined.

In: `Evidence`, finished numbers. Out: `Verdict`. The conditions are tried in a fixed order and the last one is always
true, so exactly one applies to every input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.tables.printing import label
from analysis.verdicts.answers import Answer, answer
from analysis.verdicts.claims import EQUIVALENCE, claim_text
from analysis.verdicts.evidence import MAX_EXTRAPOLATION, MIN_SIZES, NOT_CONSTANT, Code, Evidence
from analysis.verdicts.headline import Headline, Point, ends, headline, number

_MANY_SEEDS = 100  # if more than these are needed, a wider range of D helps more


@dataclass(frozen=True)
class Verdict:
    """The conclusion on one algorithm: whether its m is determined and, apart from that, whether its claim is met."""

    algorithm: str
    code: Code
    sentence: str
    claim: str | None  # as text
    answer: Answer | None  # to the claim
    headline: Headline | None  # how m is stated; None if it cannot be estimated

    @property
    def claim_sentence(self) -> str | None:
        return None if self.answer is None or self.claim is None else self.answer.sentence(self.claim)


def verdict(evidence: Evidence, claim: float | str | None = None) -> Verdict:
    """The verdict of the first condition that holds, and the answer to the claim."""
    code = _code(evidence)
    given = headline(code, evidence)
    sentence = _sentence(code, evidence)
    if evidence.flat:
        sentence += f" At its other sizes m is not given, because {evidence.flat}."
    if claim is None:
        return Verdict(evidence.algorithm, code, sentence, None, None, given)
    found = answer(claim, code, evidence, given)
    return Verdict(evidence.algorithm, code, sentence, claim_text(claim), found, given)


def _code(e: Evidence) -> Code:
    if e.not_estimable:
        return "NOT_ESTIMABLE"
    if e.rise[1] > 0:
        return "INVERSE"
    if len(e.sizes) < MIN_SIZES:
        return "AT_SIZES"
    if e.right_censored > 0.5 and e.at_least != 0:  # a bound of 0 says nothing
        return "LOWER_BOUND"
    if e.left_censored > 0.5:
        return "UPPER_BOUND"
    if e.varies:
        return "VARIES"
    low, high = e.quoted
    described = e.one_number and e.in_reach
    if described and e.spread_inside and e.held_out is not False and (low > 1 or high < 1):
        return "DETERMINED"
    if described and low >= 1 / EQUIVALENCE and high <= EQUIVALENCE:
        return "NULL"
    if e.difference[2] < 0 or e.difference[1] > 0:
        return "DIRECTION_ONLY"
    return "NOT_RESOLVED"


def _sentence(code: Code, e: Evidence) -> str:
    name, reference = label(e.algorithm), label(e.reference)
    base = f"{_range(e)}; {e.num_seeds} seeds, {e.num_problems:,} problems"
    if code == "NOT_ESTIMABLE":
        return f"{name}: no multiplier can be estimated, because {e.not_estimable}"
    if code == "INVERSE":
        return _inverse_sentence(e)
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
    if code == "AT_SIZES":
        return f"{name}: m is {_at_ends(e)} ({base})."
    if code == "VARIES":
        direction = "grows" if e.delta[0] > 0 else "falls"
        return (
            f"{name}: its multiplier {direction} with D: it is {_at_ends(e)} (slope of log m in log D"
            f" {e.delta[0]:+.2f}, {e.delta[1]:+.2f} to {e.delta[2]:+.2f}; {base}); no single number describes it."
        )
    if code == "DETERMINED":
        text = (
            f"{name} matches {reference} trained on {number(e.multiplier)}x as many problems ({_interval(e)}; {base})."
        )
        if max(e.extrapolation) > 1:
            times = number(max(e.extrapolation))
            text += f" At its largest D this takes the curve of {reference} to {times} times its data, if the form"
            text += " holds there."
        return text
    if code == "NULL":
        return f"{name} is equivalent to {reference} within 25 %: {number(e.multiplier)}x ({_interval(e)}; {base})."
    if code == "DIRECTION_ONLY":
        direction = "lower" if e.difference[0] < 0 else "higher"
        nearest, farthest = sorted(abs(limit) for limit in e.difference[1:])
        text = (
            f"{name}: {direction} error than {reference} by {points(abs(e.difference[0]))}"
            f" ({points(nearest)} to {points(farthest)})"
        )
        if e.at_sizes and not (e.one_number and e.in_reach):
            return f"{text}. m is {_at_ends(e)}; no single number is given, because {_why(e)}."
        text += f", but how much data that is worth is not determined: {_why(e)}"
        return f"{text} ({number(e.multiplier)}x, {_interval(e)})." if e.one_number and e.in_reach else f"{text}."
    if not (e.one_number and e.in_reach):
        text = f"{name}: not resolved, because {_why(e)}"
        return f"{text}. m is {_at_ends(e)} ({base})." if e.at_sizes else f"{text} ({base})."
    m = Point(None, e.multiplier, *e.quoted).text
    return f"{name}: not resolved, because {_why(e)}: m is {m} ({base})." + _needed(e)


def _range(e: Evidence) -> str:
    return f"D = {e.sizes[0]:,}" if len(e.sizes) == 1 else f"D {e.sizes[0]:,} to {e.sizes[-1]:,}"


def _at_ends(e: Evidence) -> str:
    """m at the smallest and the largest size."""
    found = " and ".join(point.text for point in ends(e))
    return found + (", with 95 % limits for all sizes at once" if len(e.sizes) > 1 else " (95 %)")


def _inverse_sentence(e: Evidence) -> str:
    text = (
        f"{label(e.algorithm)}: more data raised its error, by {points(e.rise[0])} at D = {e.sizes[-1]:,} over its best"
        f" smaller size (at least {points(e.rise[1])}); no power law describes it."
    )
    found = e.inversion
    if found is None or found.envelope is None or not e.at_sizes:
        return text
    turning = f"{found.turning_point:,} ({found.turning_low:,} to {found.turning_high:,})"
    best = Point(None, *found.envelope).text
    text += f" It turns at D = {turning}. At D = {e.sizes[-1]:,} the best policy so far is worth {best} times its data;"
    return f"{text} m is {_at_ends(e)}."


def _interval(e: Evidence) -> str:
    low, high = e.quoted
    kind = "95 % interval" if e.spread_inside else "95 % interval with the spread over forms"
    return f"{kind} {number(low)} to {number(high)}"


def _why(e: Evidence) -> str:
    """Why the data support no multiplier."""
    low, high = e.quoted
    if e.lack_of_fit < NOT_CONSTANT:
        return "no constant m fits the curves under the forms tried"
    if not e.forms_agree:
        return "the joint fit disagrees with m at single sizes"
    if not e.in_reach:
        return f"every size needs more than {MAX_EXTRAPOLATION:g} times the data of {label(e.reference)}"
    if low <= 1 <= high:
        return "the interval of the multiplier includes 1"
    if e.held_out is False:
        return "the other sizes do not predict its error at the largest size"
    return "it depends on the form of the curve"


def _needed(e: Evidence) -> str:
    low, high = e.quoted
    more = e.more_seeds
    if more is None or not low <= 1 <= high:
        return ""
    if more > _MANY_SEEDS:
        return f" More than {_MANY_SEEDS} more seeds would be needed; a wider range of D helps more."
    seeds = "seed" if more == 1 else "seeds"
    return f" Needs about {more} more {seeds}, with as many more test problems in proportion, or a wider range of D."


def listed(texts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]


def points(value: float) -> str:
    """A difference in error in percentage points."""
    return f"{100 * value:.1f} pp"
