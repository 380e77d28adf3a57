"""Verdicts: for each algorithm one code and one plain sentence, and for each claim whether the data agree.

In: `Evidence`, finished numbers. Out: `Verdict`. The conditions are tried in a fixed order and the last one is always
true, so exactly one applies to every input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.verdicts.claims import (
    EQUIVALENCE,
    ClaimOutcome,
    check_claim,
    claim_text,
    fails_at_every_size,
    holds_at_every_size,
    value_of,
)
from analysis.verdicts.evidence import MAX_EXTRAPOLATION, MIN_SIZES, NOT_CONSTANT, Code, Evidence
from analysis.verdicts.headline import LARGEST, Headline, ends, headline, number
from scaling.config.algorithms import algorithms

_MANY_SEEDS = 100  # if more than these are needed, a wider range of D helps more


@dataclass(frozen=True)
class Verdict:
    """The conclusion on one algorithm."""

    algorithm: str
    code: Code
    sentence: str
    claim: str | None  # as the sweep states it
    claim_sentence: str | None
    outcome: ClaimOutcome | None = None  # of the claim, against the interval of the single number
    headline: Headline | None = None  # how m is stated; None if it cannot be estimated


def verdict(evidence: Evidence, claim: float | str | None = None) -> Verdict:
    """The verdict of the first condition that holds."""
    beyond = claim is not None and evidence.out_of_range(value_of(claim))
    tested = None if beyond else claim
    has_interval = not (evidence.not_estimable or math.isnan(evidence.multiplier))
    outcome = check_claim(tested, *evidence.quoted) if tested is not None and has_interval else None
    code = _code(evidence, outcome, tested)
    sentence = _sentence(code, evidence, tested)
    if evidence.flat:
        sentence += f" At its other sizes m is not given, because {evidence.flat}."
    return Verdict(
        evidence.algorithm,
        code,
        sentence,
        None if claim is None else claim_text(claim),
        _beyond(claim, evidence) if claim is not None and beyond else _claim_sentence(tested, outcome, code, evidence),
        "cannot be tested" if beyond else outcome,
        headline(code, evidence),
    )


def _beyond(claim: float | str, e: Evidence) -> str:
    assert e.ceiling is not None
    limit = f"ceiling {number(e.ceiling)}x, the most that any learner of these problems could be worth"
    return f"The claim of {claim_text(claim)} cannot be tested here: {limit}."


def _code(e: Evidence, outcome: ClaimOutcome | None, claim: float | str | None) -> Code:
    if e.not_estimable:
        return "NOT_ESTIMABLE"
    if e.rise[1] > 0:
        return "INVERSE"
    if len(e.sizes) < MIN_SIZES:
        return "AT_SIZES"
    if e.right_censored > 0.5:
        return "LOWER_BOUND"
    if e.left_censored > 0.5:
        return "UPPER_BOUND"
    if e.varies:
        return "VARIES"
    low, high = e.quoted
    described = e.one_number and e.in_reach
    if described and outcome == "does not support":
        return "CONTRADICTED"
    if claim is not None and not e.one_number and fails_at_every_size(claim, e.at_sizes):
        return "CONTRADICTED"
    if described and e.spread_inside and e.held_out is not False and (low > 1 or high < 1):
        return "SUPPORTED"
    if described and low >= 1 / EQUIVALENCE and high <= EQUIVALENCE:
        return "NULL"
    if e.difference[2] < 0 or e.difference[1] > 0:
        return "DIRECTION_ONLY"
    return "NOT_RESOLVED"


def _sentence(code: Code, e: Evidence, claim: float | str | None) -> str:
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
    if code == "CONTRADICTED":
        assert claim is not None
        if not e.one_number:
            estimates = [m for m, _, _ in e.at_sizes]
            return (
                f"{name}: the claimed {claim_text(claim)} is outside what the data allow at every size: m(D) is"
                f" {_times(min(estimates))} to {_times(max(estimates))} ({base}), and no single number describes it:"
                f" {_why(e)}."
            )
        return (
            f"{name}: the claimed {claim_text(claim)} is outside what the data allow: {number(e.multiplier)}x"
            f" ({_interval(e)}; {base})."
        )
    if code == "SUPPORTED":
        text = (
            f"{name} matches {reference} trained on {number(e.multiplier)}x as many problems ({_interval(e)}; {base})."
        )
        farthest = max(e.extrapolation)
        return (
            text
            if farthest <= 1
            else f"{text} At its largest D this takes the curve of {reference} to"
            + (f" {number(farthest)} times its data, if the form holds there.")
        )
    if code == "NULL":
        return f"{name} is equivalent to {reference} within 25 %: {number(e.multiplier)}x ({_interval(e)}; {base})."
    if code == "DIRECTION_ONLY":
        direction = "lower" if e.difference[0] < 0 else "higher"
        nearest, farthest = sorted(abs(limit) for limit in e.difference[1:])
        text = (
            f"{name}: {direction} error than {reference} by {points(abs(e.difference[0]))}"
            f" ({points(nearest)} to {points(farthest)}), but how much data that is worth is not determined: {_why(e)}"
        )
        if e.one_number and e.in_reach:
            return f"{text} ({number(e.multiplier)}x, {_interval(e)})."
        return f"{text}. m is {_at_ends(e)}." if e.at_sizes else f"{text}."
    if not (e.one_number and e.in_reach):
        return f"{name}: not resolved, because {_why(e)}. " + (f"m is {_at_ends(e)} ({base})." if e.at_sizes else base)
    low, high = e.quoted
    return (
        f"{name}: not resolved, because {_why(e)}; compatible with {_span(low, high)} the data of {reference}"
        f" ({base})." + _needed(e)
    )


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
    if found is None or found.envelope is None or found.last is None:
        return text
    turning = f"{found.turning_point:,} ({found.turning_low:,} to {found.turning_high:,})"
    best, last = (f"{number(m)}x ({number(low)} to {number(high)})" for m, low, high in (found.envelope, found.last))
    return (
        f"{text} It turns at D = {turning}. At D = {e.sizes[-1]:,} the best policy so far is worth {best}, the last one"
        f" {last}."
    )


def _interval(e: Evidence) -> str:
    low, high = e.quoted
    kind = "95 % interval" if e.spread_inside else "95 % interval with the spread over forms"
    return f"{kind} {number(low)} to {number(high)}"


def _times(value: float) -> str:
    """A multiplier as text, with an x unless it is infinite."""
    return number(value) if math.isinf(value) else f"{number(value)}x"


def _span(low: float, high: float) -> str:
    """A range of multipliers in words; it may be unbounded."""
    if high > LARGEST:
        return "any multiple of" if low < 1 / LARGEST else f"{_times(low)} and more of"
    return f"{_times(low)} to {_times(high)}"


def _why(e: Evidence) -> str:
    """Why the data support no multiplier."""
    low, high = e.quoted
    if e.lack_of_fit < NOT_CONSTANT:
        return "no multiplier fits the curves under the forms tried"
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


def label(algorithm: str) -> str:
    """An algorithm's label; settings after its name are kept."""
    name, comma, rest = algorithm.partition(",")
    known = {algorithm.name: algorithm.label for algorithm in algorithms()}
    return known.get(name, name) + comma + rest  # a user's table may hold other names


def listed(texts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]


def points(value: float) -> str:
    """A difference in error in percentage points."""
    return f"{100 * value:.1f} pp"


def _claim_sentence(claim: float | str | None, outcome: ClaimOutcome | None, code: Code, e: Evidence) -> str | None:
    """The study's answer to the claim. outcome: None without an interval.

    If the data give no single number for all sizes, the claim is judged by size: it fails if no size supports it.
    """
    if claim is None:
        return None
    text = claim_text(claim)
    if (outcome is None and code != "AT_SIZES") or code in ("NOT_ESTIMABLE", "INVERSE"):
        return f"The claim of {text} cannot be tested."
    if code == "LOWER_BOUND":
        verb = "are above" if e.at_least > value_of(claim) else "do not decide"
        return f"The data {verb} the claim of {text}: only a lower bound is known."
    if code == "UPPER_BOUND":
        if isinstance(claim, str):
            agrees = e.at_most < EQUIVALENCE * value_of(claim)
            verb = "support" if agrees else "do not decide"
        else:
            verb = "do not support" if e.at_most < claim else "do not decide"
        return f"The data {verb} the claim of {text}: only an upper bound is known."
    if code == "VARIES":
        low, high = sorted(point.estimate for point in ends(e))
        where = "inside" if not isinstance(claim, str) and low <= claim <= high else "outside"
        if isinstance(claim, str):
            where = "met by" if high <= EQUIVALENCE * value_of(claim) else "not met by all of"
            return f"The claim of {text} is {where} the range of its multiplier."
        return f"The claim of {text} is {where} the range that its multiplier runs through; as one number it fails."
    if not e.one_number and fails_at_every_size(claim, e.at_sizes):
        if isinstance(claim, str):
            limit = f"at least {min(low for _, low, _ in e.at_sizes):.2f}"
        else:
            limit = f"at most {max(high for _, _, high in e.at_sizes):.2f}"
        return f"The data do not support the claim of {text} at any size: m(D) is {limit}, with limits for all at once."
    if not e.one_number and isinstance(claim, str) and holds_at_every_size(claim, e.at_sizes):
        limit = f"{max(high for _, _, high in e.at_sizes):.2f}, with limits for all at once"
        return f"The data support the claim of {text} at every size: m(D) is at most {limit}."
    if outcome is None:  # judged by size
        return f"The claim of {text} is not decided by m at {len(e.sizes)} {'sizes' if len(e.sizes) > 1 else 'size'}."
    if not e.in_reach:
        return f"The claim of {text} cannot be tested without more data of the reference."
    if not e.one_number or (e.held_out is False and code in ("DIRECTION_ONLY", "NOT_RESOLVED")):
        return f"The claim of {text} is about one number for all sizes, and these data do not give one."
    return {
        "consistent with": f"The data are consistent with {text}.",
        "not resolved": f"Whether it is {text} is not resolved.",
        "exceeds": f"The data exceed the claim of {text}.",
        "about": f"The data are a little below the claim of {text}, within a factor of 1.5.",
        "does not support": f"The data do not support the claim of {text}.",
        "supported": f"The data support the claim of {text}.",
        "slightly above": f"It is above the claim of {text}, by less than 25 %.",
    }[outcome]
