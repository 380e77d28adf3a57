"""holdout: what was left out is predicted from the rest only, and scored as the arithmetic says."""

import numpy as np
import pytest
from planted import power_law

from analysis.fitting.fits import fit_point
from analysis.fitting.forms import FORMS
from analysis.fitting.joint import Design
from analysis.multipliers.holdout import HoldOut, Score, hold_out_headline, rolling

SIZES = np.array([64, 128, 256, 512, 1024, 2048, 4096, 8192])
NAMES = ("sft", "rft")


def exact(curve=power_law):
    errors = np.array([curve(m * size) for m in (1.0, 2.0) for size in SIZES])
    arm = np.repeat([0, 1], len(SIZES))
    return Design(np.tile(np.log(SIZES), 2), arm, np.full(16, 1500.0), float(errors.min())), errors


def fits(design, errors, *names):
    return [fit_point(design, errors, FORMS[name], "H1") for name in names]


def test_the_true_form_predicts_exact_data_and_the_others_less_well():
    design, errors = exact()
    found = rolling(design, errors, NAMES, fits(design, errors, "pow2", "pow3"))
    rmsle = {(score.form, score.num_dropped): score.rmsle for score in found.scores}
    for num_dropped in (1, 2):
        # The weak prior on the floor moves exact data by a few parts in a thousand.
        assert rmsle["pow3", num_dropped] < 0.01 < rmsle["pow2", num_dropped] < rmsle["last1", num_dropped]
    assert found.best_form([FORMS["pow2"], FORMS["pow3"]]) == "pow3"


def test_every_algorithm_loses_its_own_largest_sizes():
    design, errors = exact()
    kept = np.arange(16) != 15  # RFT stops at 4096
    short = Design(design.log_size[kept], design.arm[kept], design.weight[kept], design.c_max)
    found = rolling(short, errors[kept], NAMES, fits(short, errors[kept], "pow2"))
    held = {(item.num_dropped, item.algorithm, item.data_size) for item in found.predictions if item.form == "pow2"}
    assert held == {
        *((1, "sft", 8192), (1, "rft", 4096)),
        *((2, "sft", 8192), (2, "sft", 4096), (2, "rft", 4096), (2, "rft", 2048)),
    }


def test_last1_repeats_the_last_error_seen_and_the_scores_are_their_formulas():
    design, errors = exact()
    found = rolling(design, errors, NAMES, [])
    last = [item for item in found.predictions if item.num_dropped == 2 and item.algorithm == "sft"]
    assert {item.predicted for item in last} == {power_law(2048)}
    (score,) = (item for item in found.scores if item.num_dropped == 1)
    y, f = np.array([power_law(8192), power_law(16384)]), np.array([power_law(4096), power_law(8192)])
    assert score.log_score == pytest.approx(np.mean(y * np.log(f) + (1 - y) * np.log(1 - f)))
    assert score.rmsle == pytest.approx(np.sqrt(np.mean(np.log(f / y) ** 2)))


def test_what_is_left_out_does_not_reach_the_prediction():
    design, errors = exact()
    other = errors.copy()
    other[[7, 15]] = 0.9
    start = fits(design, errors, "pow3")
    pair = [rolling(design, values, NAMES, start).predictions for values in (errors, other)]
    for one, two in zip(*pair, strict=True):
        if one.num_dropped == 1:
            assert one.predicted == two.predicted


def test_a_form_that_a_round_could_not_score_is_not_chosen():
    scores = (Score("pow2", 1, 4, -0.5, 0.1), Score("pow2", 2, 4, -0.5, 0.1), Score("shift4", 1, 4, -0.1, 0.1))
    assert HoldOut((), scores).best_form(list(FORMS.values())) == "pow2"
    assert HoldOut().best_form(list(FORMS.values())) is None


def test_a_headline_holds_or_fails_at_its_largest_size():
    design, errors = exact()
    crossed = errors + np.random.default_rng(0).normal(0, 0.01, (300, 16))
    good = hold_out_headline(design, errors, crossed, *fits(design, errors, "pow3"), 1, "rft")
    assert good.passed
    assert good.data_size == 8192
    # sd of the miss is at least that of the cell, 0.01: the interval is at least 4 x 0.01 wide, to 8 % in 300 draws.
    assert good.high - good.low > 0.035
    bent = errors.copy()
    bent[15] += 0.1
    moved = crossed + (bent - errors)
    bad = hold_out_headline(design, bent, moved, *fits(design, errors, "pow3"), 1, "rft")
    assert not bad.passed
    assert bad.predicted == pytest.approx(good.predicted, abs=1e-6)
