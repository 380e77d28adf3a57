"""expected and assumptions: what a grid can be expected to show, checked where it is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from planted import power_law

from analysis.planner.assumptions import Assumptions, Defaults, Grid, claimed_multipliers, default_assumptions
from analysis.planner.expected import Expected, allowed, expect, is_true, sentence, told
from analysis.planner.simulation import Noise, noise_of, simulate
from analysis.verdicts.claims import check_claim, is_met
from analysis.verdicts.study import analyse

SIZES = (64, 128, 256, 512, 1024)
CLAIMS = {"rft": 2, "step_dpo": 8, "dpo": "<=1"}


def grid(reference=SIZES, other=SIZES, seeds=3, problems=300, names=("rft",)) -> Grid:
    return Grid("", {"sft": reference, **dict.fromkeys(names, other)}, seeds, problems)


def truth(item_sd=2.0, run_sd=0.12, **multipliers: float) -> Assumptions:
    return Assumptions(power_law, {"sft": 1.0, **multipliers}, item_sd, run_sd, 0.0, "pow3", "the test")


@pytest.mark.parametrize("noise", [Noise(8, 2000, 2.0, 0.3), Noise(8, 2000, 0.5, 0.1), Noise(8, 2000, 1.0, 0.0)])
def test_the_noise_of_a_study_is_found_again(noise):
    found = noise_of(simulate({"sft": 1.0, "rft": 2.0}, SIZES, power_law, noise, np.random.default_rng(0)))
    assert found.item_sd == pytest.approx(noise.item_sd, rel=0.1)
    assert found.run_sd == pytest.approx(noise.run_sd, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_runs_of_a_seed_share_is_found_again(share):
    noise = Noise(60, 1000, 1.0, 0.4, share)
    found = noise_of(simulate({"sft": 1.0, "rft": 2.0}, SIZES, power_law, noise, np.random.default_rng(1)))
    # A variance over 60 seeds has a standard error of 18 %.
    assert found.seed_share == pytest.approx(share, abs=0.25)


def test_noise_needs_two_runs_of_a_cell():
    alone = simulate({"sft": 1.0}, SIZES, power_law, Noise(1, 50), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no cell has two runs"):
        noise_of(alone)


def test_a_claim_that_holds_is_told_from_half_where_the_reference_reaches_it():
    (found,) = expect(grid(reference=(64, 128, 256, 512, 1024, 2048)), truth(rft=2.0), "sft", CLAIMS, 8, 100)
    assert (found.claim, found.multiplier, found.num_studies) == (2, 2.0, 8)
    assert found.coverage >= 0.75
    assert 1 < found.width < 3
    assert found.from_half == 1.0  # from 1x, which is half of 2x
    text = sentence(found, "sft")
    assert "the grid can show that the claim of 2x is met" in text
    assert "it can tell 2.00x from 1.00x (100 % of studies do)" in text


def test_a_reference_that_ends_too_early_gives_a_bound_and_the_page_says_how_far_it_must_run():
    (found,) = expect(grid(other=(512, 724, 1024), names=("step_dpo",)), truth(step_dpo=8.0), "sft", CLAIMS, 4, 100)
    assert found.code == "LOWER_BOUND"
    assert math.isinf(found.width)
    assert found.reach == 8.0
    text = sentence(found, "sft")
    assert "needs SFT on 8,192 problems, but it ends at 1,024" in text
    assert "it cannot reliably tell 8.00x from 4.00x" in text


def test_more_seeds_and_problems_narrow_the_interval():
    widths = [
        expect(grid(seeds=seeds, problems=problems), truth(rft=2.0), "sft", {}, 4, 100)[0].width
        for seeds, problems in ((3, 100), (6, 800))
    ]
    assert widths[1] < 0.7 * widths[0]


def test_the_same_seed_gives_the_same_numbers():
    assert len({expect(grid(problems=100), truth(rft=2.0), "sft", CLAIMS, 2, 50, seed=3) for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("claim", "multiplier", "expected"),
    [
        (2, 2.0, True),
        (2, 3.0, True),
        (2, 1.5, False),
        (8, 1.5, False),
        ("<=1", 1.0, True),
        ("<=1", 1.19, False),
        (1, 1.0, True),
    ],
)
def test_endless_data_say_of_a_claim_what_is_true(claim, multiplier, expected):
    assert is_true(claim, (multiplier, multiplier)) is expected


def test_an_interval_may_leave_a_claim_open():
    for claim, low, high, met in (
        (2, 1.5, 3.0, True),
        (2, 0.9, 3.0, None),
        ("<=1", 0.8, 1.6, None),
        ("<=1", 1.1, 1.4, False),
    ):
        assert is_met(check_claim(claim, low, high)) is met


def test_verdicts_are_counted_not_assumed():
    """Three runs that scatter widely tell little, and their intervals say so."""
    noisy = truth(item_sd=0.1, run_sd=0.7, rft=2.0)
    (found,) = expect(grid(seeds=3, problems=200), noisy, "sft", CLAIMS, 12, 50)
    assert found.coverage >= 0.75 and found.width > 2
    assert found.right_verdict < 0.9
    assert found.from_one < 1.0


def test_a_study_without_an_estimate_leaves_everything_open_and_is_no_coverage():
    flat = Assumptions(lambda size: np.full(np.shape(size), 0.5), {"sft": 1.0, "rft": 1.0}, 1.0, 0.1, 0.0, "pow3", "")
    (found,) = expect(grid(), flat, "sft", CLAIMS, 3, 50)
    assert (found.code, found.refused) == ("NOT_ESTIMABLE", 1.0)
    assert math.isnan(found.coverage) and math.isinf(found.width) and found.right_verdict == 0.0
    assert "most studies allow no estimate" in sentence(found, "sft")


def test_an_arm_worse_than_every_reference_gives_an_upper_bound():
    outcomes = simulate(
        {"sft": 1.0, "rft": 0.05}, SIZES, power_law, Noise(4, 1500, 1.0, 0.05), np.random.default_rng(0)
    )
    study = analyse(outcomes, "sft", {}, 100)
    (verdict,) = study.verdicts
    assert verdict.code == "UPPER_BOUND"
    low, high = allowed(verdict)
    assert low == 0.0 and 0.05 < high <= 1.0


def test_two_values_are_told_apart_when_the_one_farther_from_the_truth_is_left_out():
    assert told(8, 4, truth=8, low=5, high=11)
    assert not told(8, 4, truth=8, low=3, high=11)
    assert told(8, 4, truth=1.5, low=1.2, high=5)  # 8 is out, though 4 is not


def test_what_is_assumed_without_a_first_run_is_the_claims_and_a_stated_curve():
    of_grid = grid(names=("rft", "dpo", "step_dpo", "other"))
    assert claimed_multipliers(of_grid, "sft", CLAIMS) == {
        **{"sft": 1.0, "rft": 2.0, "dpo": 1.0, "step_dpo": 8.0},
        "other": 2.0,
    }
    found = default_assumptions(of_grid, "sft", CLAIMS, Defaults(floor=0.1, exponent=0.5, first_error=0.9, run_sd=0.12))
    np.testing.assert_allclose(found.curve(np.array([64.0, 256.0])), [0.9, 0.1 + 0.8 / 2])
    assert "an error of 0.1 + a D^-0.5" in found.source


def test_a_bound_that_cannot_be_decided_says_why():
    known = Expected("dpo", "<=1", 1.19, 1.19, 10, 0.0, 0.9, 1.2, 0.1, None, None, "DETERMINED", 0.5, 512, 2048)
    text = sentence(known, "sft")
    assert "the grid cannot reliably show that the claim of at most 1x is not met (10 % of studies do)" in text
    assert "the interval spans a factor of 1.20" in text
    unclaimed = replace(known, claim=None, right_verdict=None)
    assert "nothing is claimed and 1.19x is assumed" in sentence(unclaimed, "sft")
