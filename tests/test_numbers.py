"""numbers: predictions cover new runs, and places are read and marked."""

import numpy as np
import pytest

from analysis.curves.laws import bootstrap_curve, fit_curve
from analysis.curves.numbers import Place, place, places, predicted, scatter
from analysis.curves.points import PointsError

X = np.geomspace(100, 1e5, 10)


def test_the_interval_of_a_new_run_covers_new_runs():
    hits = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        y = 3 * X**-0.3 * np.exp(generator.normal(0, 0.05, 10))
        curve = fit_curve(X, y, "pow2")
        at = np.array([2e5])
        draws = bootstrap_curve(X, y, curve, 200, seed).predict(at)[:, 0]
        about = scatter(y, curve.predict(X)[0], np.ones(10), 2)
        found = predicted(Place({"x": 2e5}, ""), curve.predict(at)[0, 0], draws, about, generator)
        new = 3 * 2e5**-0.3 * np.exp(generator.normal(0, 0.05, 20))
        hits.append(np.mean((found["new_run_low"] < new) & (new < found["new_run_high"])))
    assert 0.92 < np.mean(hits) < 0.985


def test_scatter_counts_parameters_and_weights():
    observed, fitted = np.exp([0.1, -0.1, 0.2, 0.0]), np.ones(4)
    assert scatter(observed, fitted, np.ones(4), 2).sd == pytest.approx(np.sqrt(0.06 / 2))
    assert scatter(observed, fitted, np.array([1, 1, 2, 4.0]), 2).sd == pytest.approx(np.sqrt(0.1 / 2 / 2))
    assert scatter(observed, fitted, np.ones(4), 4) is None


def test_places_are_read_in_any_order_and_what_lies_beyond_is_marked():
    n, d = np.array([1e7, 1e9]), np.array([1e8, 1e10])
    (found,) = places(["D=1e12, N=5e6"], ["N", "D"], [n, d])
    assert found.at == {"N": 5e6, "D": 1e12}
    assert list(found.at) == ["N", "D"]
    assert found.beyond == "0.5 times the smallest N and 100 times the largest D"
    assert place({"N": 1e9, "D": 1e8}, ["N", "D"], [n, d]).beyond == ""


@pytest.mark.parametrize("text", ["7", "N=7", "N=7,N=8", "N=7,D=8,D=9", "N=7,D=", "N=7,D=nan", "N=7,E=8"])
def test_a_place_that_is_not_one_is_refused(text):
    with pytest.raises(PointsError, match="--predict is"):
        places([text], ["N", "D"], [np.ones(2), np.ones(2)])
