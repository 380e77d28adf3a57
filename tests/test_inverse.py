"""analysis.multipliers.inverse: where more data make an algorithm worse, and what the reference then counts with."""

import numpy as np
import pandas as pd
import pytest
from planted import SIZES, planted, power_law
from test_multipliers import exact_outcomes, without_noise
from test_verdicts import evidence

from analysis.fitting.isotonic import non_increasing, running_minimum
from analysis.multipliers.estimates import pointwise
from analysis.multipliers.inverse import before_turning, inversions
from analysis.tables.outcomes import from_table
from analysis.verdicts.judge import verdict
from analysis.verdicts.study import analyse

SFT = [0.8, 0.7, 0.6, 0.5, 0.4]


def test_the_turning_point_is_the_best_size_and_both_multipliers_are_at_the_last():
    outcomes = exact_outcomes({"sft": SFT, "dpo": [0.8, 0.6, 0.5, 0.55, 0.7]})
    (found,) = inversions(outcomes, "sft", without_noise(outcomes), non_increasing)
    assert found.algorithm == "dpo"
    assert (found.turning_point, found.turning_low, found.turning_high) == (256, 256, 256)
    assert found.rise == pytest.approx((0.2, 0.2, 0.2))
    # SFT has 0.5 at 512 and 0.7 at 128; the last D is 1024.
    assert found.envelope == pytest.approx((512 / 1024,) * 3)
    assert found.last == pytest.approx((128 / 1024,) * 3)
    assert outcomes.data_size[before_turning(outcomes, (found,))].tolist() == [*SIZES, 64, 128, 256]


def test_falling_curves_are_not_flagged():
    outcomes = exact_outcomes({"sft": SFT, "rft": [0.7, 0.6, 0.5, 0.45, 0.4]})
    assert inversions(outcomes, "sft", without_noise(outcomes), non_increasing) == ()
    assert before_turning(outcomes, ()).all()


def test_a_reference_that_rises_counts_with_the_best_so_far():
    # SFT is best at 256, with 0.5, and worse after: DPO's 0.5 at 64 is worth 256. Pooling would say it beats SFT.
    outcomes = exact_outcomes({"sft": [0.8, 0.7, 0.5, 0.6, 0.7], "dpo": [0.5] * 5})
    draws = without_noise(outcomes)
    assert pointwise(outcomes, "sft", draws, running_minimum)[0].estimate == pytest.approx(4.0)
    assert pointwise(outcomes, "sft", draws)[0].estimate == np.inf
    (found,) = inversions(outcomes, "sft", draws, running_minimum)
    assert (found.algorithm, found.turning_point, found.envelope) == ("sft", 256, None)


@pytest.mark.parametrize(
    ("curve", "expected", "said"),
    [
        ([0.3, 0.2, 0.2, 0.2, 0.35], (np.inf, 1.0, np.inf), "worth at least 1.00 times"),  # below all of SFT's
        ([0.85, 0.85, 0.85, 0.85, 0.95], (0.0, 0.0, 64 / 1024), "worth at most 0.06 times"),  # above all
    ],
)
def test_the_best_policy_so_far_beyond_the_references_range_has_a_bound(curve, expected, said):
    outcomes = exact_outcomes({"sft": SFT, "dpo": curve})
    (found,) = inversions(outcomes, "sft", without_noise(outcomes), non_increasing)
    assert found.envelope == pytest.approx(expected)
    assert said in verdict(evidence(rise=found.rise, inversion=found, at_sizes=((1.0, 0.8, 1.2),) * 3)).sentence


def test_a_study_tells_the_turning_point_and_spares_the_others_fit():
    table = planted({"sft": 1.0, "rft": 2.0}, num_seeds=4)
    bent = planted({"dpo": 1.0}, num_seeds=4, curve=lambda size: power_law(size) if size < 500 else 0.75)
    study = analyse(from_table(pd.concat([table, bent])), "sft", {}, num_draws=300)
    by_name = {item.algorithm: item for item in study.verdicts}
    assert by_name["dpo"].code == "INVERSE"
    assert "It turns at D = 256 (" in by_name["dpo"].sentence
    assert by_name["rft"].code == "DETERMINED"
    assert not study.best_so_far
    unused = ~study.models["dpo"].used
    assert study.models["dpo"].outcomes.data_size[unused].tolist() == [512, 1024]
    assert study.models["rft"].used.all()


def test_a_rising_reference_is_flagged_in_the_study():
    rising = planted({"sft": 1.0}, num_seeds=4, curve=lambda size: power_law(size) if size < 500 else 0.75)
    study = analyse(from_table(pd.concat([rising, planted({"rft": 2.0}, num_seeds=4)])), "sft", {}, num_draws=300)
    assert study.best_so_far
    assert study.models
