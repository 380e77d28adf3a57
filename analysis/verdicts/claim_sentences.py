"""What a study says of a claim, in one plain sentence.

In: a claim, its outcome against the interval, the verdict's code and the evidence. Out: the sentence. Where one number
for all sizes is not what the data give, the claim of one is judged by the sizes: it fails where none supports it.
"""

from analysis.verdicts.claims import (
    EQUIVALENCE,
    ClaimOutcome,
    claim_text,
    fails_at_every_size,
    holds_at_every_size,
    upper_bound,
)
from analysis.verdicts.evidence import Code, Evidence
from analysis.verdicts.headline import ends


def claim_sentence(claim: float | str, outcome: ClaimOutcome | None, code: Code, e: Evidence) -> str:
    """outcome: None where there is no interval."""
    text = claim_text(claim)
    if (outcome is None and code != "AT_SIZES") or code in ("NOT_ESTIMABLE", "INVERSE"):
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
        low, high = sorted(point.estimate for point in ends(e))
        where = "inside" if not isinstance(claim, str) and low <= claim <= high else "outside"
        if isinstance(claim, str):
            where = "met by" if high <= EQUIVALENCE * upper_bound(claim) else "not met by all of"
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
    if code == "AT_SIZES":
        return f"The claim of {text} is not decided by m at {len(e.sizes)} {'sizes' if len(e.sizes) > 1 else 'size'}."
    if not e.in_reach:
        return f"The claim of {text} cannot be tested without more data of the reference."
    if not e.one_number or (e.held_out is False and code in ("DIRECTION_ONLY", "NOT_RESOLVED")):
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
