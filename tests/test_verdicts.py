"""analysis.verdicts.judge: exactly one verdict for every input, and claims are judged by the interval alone."""

import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.multipliers.inverse import Inversion
from analysis.verdicts.claims import check_claim
from analysis.verdicts.evidence import MEANINGS, Code, Evidence
from analysis.verdicts.judge import verdict

KNOWN = {
    "num_seeds": 4,
    "num_problems": 500,
    "sizes": (64, 256, 1024),
    "largest_reference": 1024,
    "form_spread": (2.0, 2.1),
    "difference": (-0.05, -0.07, -0.03),
}


AT_SIZES = ((1.0, 0.8, 1.2), (2.0, 1.5, 2.6), (4.0, 3.0, 5.0))


def evidence(**changes) -> Evidence:
    return Evidence("rft", "sft", **{**KNOWN, "multiplier": 2.0, "low": 1.6, "high": 2.5, **changes})


def test_each_condition_has_its_verdict():
    cases = {
        "DETERMINED": {},
        "NOT_ESTIMABLE": {"not_estimable": "there are 2 seeds."},
        "INVERSE": {"rise": (0.05, 0.02, 0.08)},
        "LOWER_BOUND": {"right_censored": 0.8, "at_least": 6.0},
        "UPPER_BOUND": {"left_censored": 0.8, "at_most": 0.5},
        "VARIES": {"delta": (0.4, 0.2, 0.6), "at_sizes": AT_SIZES, "lack_of_fit": 0.01},
        "AT_SIZES": {"sizes": (64, 128), "multiplier": math.nan, "at_sizes": ((1.0, 0.8, 1.2), (4.0, 3.0, 5.0))},
        "NULL": {"multiplier": 1.0, "low": 0.9, "high": 1.1, "form_spread": (1.0, 1.05)},
        "NOT_RESOLVED": {"low": 0.6, "high": 2.5, "difference": (0.0, -0.01, 0.01)},
        "DIRECTION_ONLY": {"low": 0.6, "high": 2.5},
    }
    for code, changes in cases.items():
        assert verdict(evidence(**changes)).code == code
    assert set(cases) == set(typing.get_args(Code)) == set(MEANINGS)


def test_a_single_number_that_does_not_fit_is_not_determined():
    assert verdict(evidence(lack_of_fit=0.01)).code == "DIRECTION_ONLY"
    assert verdict(evidence(form_spread=(1.2, 2.0))).code == "DIRECTION_ONLY"
    disagreeing = verdict(evidence(mean=(1.2, 1.1, 1.3)), claim=2.0)
    assert disagreeing.code == "DIRECTION_ONLY"
    assert "disagree" in disagreeing.sentence
    assert disagreeing.answer.text == "cannot be tested: no multiplier can be estimated"
    # A slope under a model that does not fit either is no evidence of a varying multiplier.
    bent = evidence(delta=(0.4, 0.2, 0.6), lack_of_fit=0.0, lack_of_fit_varying=0.0)
    assert verdict(bent).code == "DIRECTION_ONLY"


@pytest.mark.parametrize(
    ("claim", "changes", "expected"),
    [
        (2.0, {}, "met: 1.60 to 2.50 holds 2"),
        (1.5, {}, "met: 2.00 is above 1.5"),
        (8.0, {}, "not met: 2.00 is below 8"),
        (2.6, {"low": 1.8, "form_spread": (2.0, 2.0)}, "not met: 2.00 is below 2.6, within a factor of 1.5"),
        ("<=1", {}, "not met: 2.00 is above 1"),
        ("<=2", {"low": 1.6, "high": 2.4}, "met: the upper limit, 2.40, is below 2.5"),
        ("<=2", {"low": 1.6, "high": 2.6}, "not decided: 1.60 to 2.60 reaches beyond 2.5"),
        (2.0, {"low": 0.9}, "not decided: 0.90 to 2.50 holds both 2 and 1"),
        (2.0, {"low": 1.1, "high": 9.0}, "not decided: 1.10 to 9.00 holds 2 but is too wide"),
        ("<=1", {"multiplier": 1.15, "low": 1.1, "high": 1.2, "form_spread": (1.15, 1.15)},
         "not met: 1.15 is above 1, by less than 25 %"),
        (2.0, {"rise": (0.05, 0.02, 0.08)}, "cannot be tested: more data raised the error"),
        (2.0, {"not_estimable": "there are 2 seeds."}, "cannot be tested: no multiplier can be estimated"),
        (2.0, {"right_censored": 0.8, "at_least": 6.0}, "met: at least 6.00 is above 2"),
        (8.0, {"right_censored": 0.8, "at_least": 6.0}, "not decided: only the lower bound of 6.00 is known"),
        ("<=1", {"right_censored": 0.8, "at_least": 6.0}, "not met: at least 6.00 is above 1"),
        (2.0, {"left_censored": 0.8, "at_most": 0.5}, "not met: m is at most 0.50"),
        ("<=1", {"left_censored": 0.8, "at_most": 0.5}, "met: m is at most 0.50"),
        (0.3, {"left_censored": 0.8, "at_most": 0.5}, "not decided: only the upper bound of 0.50 is known"),
        (2.0, {"ceiling": 1.5}, "cannot be tested: no learner of these problems could be worth more than 1.50x"),
        # The hold-out fails: only what the interval clearly excludes is decided.
        (2.0, {"held_out": False}, "not decided: the other sizes do not predict the error at the largest size"),
        (8.0, {"held_out": False}, "not met: 2.00 is below 8"),
        # A spread over forms beyond the interval counts with it.
        (1.1, {"low": 1.8, "form_spread": (1.05, 2.0)}, "met: 1.05 to 2.50 holds 1.1"),
    ],
)  # fmt: skip
def test_a_claim_is_answered_with_its_numbers_and_leaves_the_verdict_alone(claim, changes, expected):
    found = verdict(evidence(**changes), claim)
    assert found.answer.text == expected
    assert (found.code, found.sentence, found.headline) == (lambda v: (v.code, v.sentence, v.headline))(
        verdict(evidence(**changes))
    )
    verb = "" if found.answer.status == "cannot be tested" else "is "
    assert found.claim_sentence == f"The claim of {found.claim} {verb}{expected}."


@pytest.mark.parametrize(
    ("claim", "limits", "expected"),
    [
        (8.0, ((1.0, 1.5), (1.5, 2.4), (1.2, 2.0)), "not met: m at every size is at most 2.40"),
        (8.0, ((1.0, 1.5), (1.5, 2.4), (1.5, 9.0)), "not decided: the limits of m at D = 1,024 leave it open"),
        (2.0, ((1.0, 1.5), (1.5, 2.4), (1.8, 3.0)), "depends on D: m agrees with it at D = 256, 1,024, not at D = 64"),
        (2.0, ((1.2, 2.5), (1.5, 2.4), (1.8, 3.0)), "met: m at every size is at least 1.20 and at most 3.00"),
        (2.0, ((2.2, 2.5), (2.5, math.inf), (3.0, 9.0)), "met: m at every size is at least 2.20"),
        ("<=1", ((1.1, 1.8), (1.5, 2.4), (1.5, 2.4)), "not met: m at every size is at least 1.10"),
        ("<=1", ((0.9, 1.8), (1.5, 2.4), (1.5, 2.4)), "not decided: the limits of m at D = 64 leave it open"),
        ("<=1", ((0.2, 0.6), (0.7, 1.1), (0.5, 0.9)), "met: m at every size is at most 1.10"),
    ],
)
def test_without_one_number_every_size_decides(claim, limits, expected):
    bent = {"lack_of_fit": 0.0, "lack_of_fit_varying": 0.0, "extrapolation": (18.0, 300.0)}
    at_sizes = tuple((low, low, high) for low, high in limits)
    found = verdict(evidence(**bent, at_sizes=at_sizes), claim)
    assert found.code == "DIRECTION_ONLY" and found.answer.text == expected
    # Where one number fits it decides, whatever single sizes say.
    assert verdict(evidence(at_sizes=((1.7, 1.0, 2.5),) * 3), 2.0).answer.text == "met: 1.60 to 2.50 holds 2"


def test_one_number_whose_interval_holds_none_of_its_points_is_withdrawn():
    # As in a development sweep: 1.83 (1.67 to 2.01) where the points were 2.05 and 2.44.
    points = ((2.05, 1.5, 2.7), (2.2, 1.4, 3.0), (2.44, 1.6, 3.3))
    joint = {"multiplier": 1.83, "low": 1.67, "high": 2.01, "mean": (2.24, 1.9, 2.43), "form_spread": (1.83, 1.83)}
    found = verdict(evidence(**joint, at_sizes=points))
    assert found.headline.kind == "sizes" and "1.83" not in found.sentence
    inside = verdict(evidence(**joint, at_sizes=((1.9, 1.5, 2.7), *points[1:])))
    assert inside.headline.kind == "one number"


def test_a_bound_of_nothing_is_no_bound():
    nowhere = {"at_sizes": ((math.inf, 0.0, math.inf),) * 2 + ((0.0, 0.0, math.inf),), "lack_of_fit": 0.0}
    found = verdict(evidence(**nowhere, right_censored=0.7, at_least=0.0))
    assert found.code != "LOWER_BOUND"
    assert "above the reference's range (without limits) at D = 64" in found.headline.text
    assert "below the reference's range (without limits)" in found.headline.text


def test_an_interval_without_an_end_is_said_in_words():
    unresolved = {"difference": (0.0, -0.01, 0.01)}
    for low, high, said in (
        (0.0, math.inf, "2.00 (without limits)"),
        (0.5, math.inf, "2.00 (0.50 and more)"),
        (0.5, 3.0, "2.00 (0.50 to 3.00)"),
    ):
        assert f"m is {said} (" in verdict(evidence(low=low, high=high, **unresolved)).sentence


def test_one_number_needs_the_hold_out_and_data_of_the_reference_within_reach():
    assert verdict(evidence(held_out=True)).code == "DETERMINED"
    failed = verdict(evidence(held_out=False))
    assert failed.code == "DIRECTION_ONLY"
    assert "the other sizes do not predict its error" in failed.sentence
    far = verdict(evidence(extrapolation=(4.1, 60.0)), claim=2.0)
    assert far.code == "DIRECTION_ONLY"
    assert "more than 4 times the data of SFT" in far.sentence
    assert far.claim_sentence == "The claim of 2x cannot be tested: that takes more data of the reference."
    near = verdict(evidence(extrapolation=(0.2, 3.0)))
    assert near.code == "DETERMINED"
    assert "takes the curve of SFT to 3.00 times its data" in near.sentence


def test_a_spread_over_forms_beyond_the_interval_is_quoted_with_it():
    item = evidence(form_spread=(1.4, 2.2))
    assert item.quoted == (1.4, 2.5)
    found = verdict(item)
    assert found.code == "DIRECTION_ONLY"
    assert "95 % interval with the spread over forms 1.40 to 2.50" in found.sentence
    assert found.headline.text == "2.00 (1.40 to 2.50)"


def test_the_number_of_seeds_that_would_resolve_follows_the_root():
    # log m = 0.1, half-width 0.3 (m = 1 needs 0.1): 9 times as many. Within 25 %: room 0.223 - 0.1 = 0.123 for 0.3,
    # (0.3 / 0.123)^2 = 5.94 times as many: 4 seeds to 24.
    m = math.exp(0.1)
    wide = evidence(
        **{"multiplier": m, "low": m * math.exp(-0.3), "high": m * math.exp(0.3), "form_spread": (m, m)},
        difference=(0.0, -0.01, 0.01),
    )
    assert wide.more_seeds == 20
    found = verdict(wide)
    assert found.code == "NOT_RESOLVED"
    assert "about 20 more seeds" in found.sentence
    # log m = 0.5 and a half-width of 0.6: (0.6 / 0.5)^2 = 1.44, 4 seeds to 5.76.
    m = math.exp(0.5)
    assert evidence(multiplier=m, low=m * math.exp(-0.6), high=m * math.exp(0.6), form_spread=(m, m)).more_seeds == 2
    assert evidence(low=0.0, high=math.inf).more_seeds is None


def test_an_inversion_says_where_it_turns_and_what_is_left():
    turned = Inversion("rft", (0.05, 0.02, 0.08), 256, 128, 512, (0.5, 0.4, 0.6), (0.125, 0.1, 0.2))
    found = verdict(evidence(rise=turned.rise, inversion=turned, at_sizes=AT_SIZES))
    assert "turns at D = 256 (128 to 512)" in found.sentence
    assert (
        "best policy so far is worth 0.50 (0.40 to 0.60) times its data; m is 1.00 (0.80 to 1.20) at D = 64 and"
        in found.sentence
    )


@pytest.mark.parametrize(
    ("claim", "low", "high", "expected"),
    [
        (2.0, 1.7, 2.5, "consistent with"),
        (2.0, 0.9, 2.5, "not resolved"),  # includes 1
        (8.0, 2.1, 9.0, "not resolved"),  # spans more than a factor of 4
        (2.0, 2.1, 2.5, "exceeds"),
        (2.0, 1.5, 1.9, "about"),  # 2 / 1.5 = 1.33 < 1.5
        (2.0, 1.2, 1.9, "does not support"),
        (8.0, 2.1, 4.6, "does not support"),
        ("<=1", 0.9, 1.2, "supported"),
        ("<=1", 0.9, 1.3, "not resolved"),
        ("<=1", 1.1, 1.3, "does not support"),
        ("<=1", 1.1, 1.2, "slightly above"),
    ],
)
def test_claims(claim, low, high, expected):
    assert check_claim(claim, low, high) == expected


def test_a_malformed_claim_is_an_error():
    with pytest.raises(ValueError, match="'>=2'"):
        check_claim(">=2", 1.0, 2.0)


multipliers = st.floats(0, 100) | st.just(math.inf)
triples = st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)).map(
    lambda values: (sorted(values)[1], sorted(values)[0], sorted(values)[2])
)


@given(
    st.tuples(multipliers, multipliers, multipliers).map(sorted),
    st.floats(0, 1),
    st.floats(0, 1),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.none() | st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 10)).map(lambda m: tuple(sorted(m))),
    triples,
    triples,
    triples,
    st.sampled_from([None, 2.0, 8.0, "<=1"]),
    st.sampled_from([None, "there are 2 seeds."]),
    st.tuples(multipliers, multipliers),
    st.tuples(st.floats(0, 100), st.floats(0, 100)),
    st.sampled_from([None, True, False]),
)
def test_every_input_has_exactly_one_verdict_and_a_sentence(
    m, right, left, lack_of_fit, mean, delta, difference, rise, claim, refusal, spread, reach, held_out
):
    item = evidence(
        low=m[0],
        multiplier=m[1],
        high=m[2],
        right_censored=right,
        left_censored=left,
        at_least=2.0,
        at_most=0.5,
        lack_of_fit=lack_of_fit[0],
        lack_of_fit_varying=lack_of_fit[1],
        mean=mean,
        delta=delta,
        at_sizes=((0.5, 0.2, 3.0), (2.0, 1.5, 4.0), (math.inf, 3.0, math.inf)),
        difference=difference,
        rise=rise,
        not_estimable=refusal,
        form_spread=tuple(sorted(spread)),
        extrapolation=reach,
        held_out=held_out,
    )
    found = verdict(item, claim)
    assert found.code in typing.get_args(Code)
    assert found.sentence.endswith(".")
    assert "nan" not in found.sentence
    assert (found.claim_sentence is None) == (claim is None)
    assert found.code == verdict(item).code
    assert found.answer is None or "nan" not in found.answer.text
