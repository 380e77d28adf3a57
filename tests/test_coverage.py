"""benchmarks.coverage: regimes are what they say, and a coverage that is too small is rejected."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.verdicts.headline import Headline, Point
from benchmarks.coverage import RULES, _holds, document, study_rows, summary
from benchmarks.coverage_regimes import REFERENCE, Arm, planted, regime_of


def test_there_are_regimes_enough_with_names_of_their_own():
    names = [regime.name for regime in planted()]
    assert len(set(names)) == len(names) >= 14


@pytest.mark.parametrize("name", ["noise 4", "two humps", "near 0", "diverged", "seed .9"])
def test_a_cells_error_is_the_curves_at_m_d(name):
    arms = {"m = 4": Arm(4.0, sizes=(64, 128))}
    regime = dataclasses.replace(regime_of(name), arms=arms, reference_sizes=(256,), num_seeds=400, num_problems=400)
    outcomes = regime.simulate(np.random.default_rng(0))
    expected = [float(regime.curve(np.array(float(size)))) for size in (256, 256, 512)]
    # 400 problems of sd 2 know an error of .5 to about 2 points, and 400 runs add little to that.
    np.testing.assert_allclose(outcomes.errors, expected, atol=0.07, rtol=0.15)
    assert outcomes.algorithms == (REFERENCE, "m = 4")


def test_an_algorithm_may_have_seeds_of_its_own_number():
    outcomes = regime_of("unequal seeds").simulate(np.random.default_rng(0))
    counts = {name: set(outcomes.present[outcomes.cells_of(name)].sum(axis=1)) for name in outcomes.algorithms}
    assert counts == {REFERENCE: {3}, "m = 1": {4}, "m = 2": {6}}


def test_what_is_given_holds_where_every_point_does():
    regime = regime_of("moving arms")
    grows = {size: regime.truth("m grows", size) for size in (64, 1024)}
    assert grows == {64: 1.5, 1024: pytest.approx(6.0)}
    ends = [Point(64, 1.4, 1.2, 1.6), Point(1024, 5.0, 4.0, 7.0)]
    assert _holds(Headline("sizes", tuple(ends)), regime, "m grows")
    assert not _holds(Headline("sizes", (ends[0], Point(1024, 3.0, 2.0, 5.0))), regime, "m grows")
    assert not _holds(Headline("one number", (Point(None, 3.0, 1.4, 5.0),)), regime, "m grows")
    assert _holds(Headline("lower bound", (Point(None, np.inf, 5.0, np.inf),)), regime, "m grows")


def rows_with(covered: int, studies: int = 200) -> pd.DataFrame:
    flags = np.arange(studies) < covered
    row = {"arm": "m = 1", "code": "NULL", "kind": "one number", "is_constant": True, "m": 1.0, "noise": 1.0}
    return pd.DataFrame({**row, "joint": flags, "headline": True, "each": 1.0, "at_once": True, "width": 0.5})


def test_a_coverage_that_is_too_small_is_rejected_and_said():
    # Of 200 studies with a chance of .94 at most 180 are covered in 1.8 %, 179 in .9 %.
    for covered, rejected in ((180, ""), (179, "joint")):
        found = summary(regime_of("noise 1"), rows_with(covered))
        assert found["rejected"].tolist() == [rejected]
    text = document(found.assign(draws=100, seed=0, rules=RULES))
    assert "Rejected: noise 1, m = 1: joint." in text and "**89.5**" in text


def test_the_same_study_gives_the_same_rows():
    one, same = (study_rows("noise 1", 3, 60, 0) for _ in range(2))
    assert one == same and [row["arm"] for row in one] == ["m = 1", "m = 2"]
