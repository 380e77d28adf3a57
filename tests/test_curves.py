"""analysis.curves.laws and analysis.curves.choice: published errors of extrapolation on 92 curves, and planted laws."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.curves.choice import choose, half_budget, hold_out
from analysis.curves.laws import AUTO, LAWS, STEEPEST, bootstrap_curve, fit_curve, rmsle
from analysis.curves.numbers import joint_region

KNOWN = Path(__file__).parents[2] / "shared" / "known_answers"
BENCHMARK = KNOWN / "alabdulmohsin_benchmark"
FINETUNING = KNOWN / "finetuning_scaling"
PORIAN = KNOWN / "porian_compute_optimal" / "optimal_pairs.csv"
X = np.geomspace(50, 1e5, 10)


def law(x: np.ndarray, a=0.6, b=0.5, c=0.0, d=0.0, noise=0.0, seed=0) -> np.ndarray:
    """c + a ((x + d) / 100)^-b."""
    return (c + a * ((x + d) / 100) ** -b) * np.exp(np.random.default_rng(seed).normal(0, noise, len(x)))


@pytest.mark.skipif(not BENCHMARK.exists(), reason="the curves of Alabdulmohsin et al. are not here")
def test_ninety_two_published_curves_extrapolate_as_known():
    table = pd.concat([pd.read_csv(BENCHMARK / f"benchmark.{name}.csv") for name in ("vision", "lang")])
    answers = pd.read_csv(BENCHMARK / "reference_rmsle.csv")
    curves = dict(iter(table.groupby(["Domain", "Task", "Model"])))
    assert len(answers) == 92
    shifted = []
    for row in answers.itertuples():
        fitted, ahead = (_points(curves[row.domain, row.task, row.model], part) for part in (1, 0))
        missed = rmsle(fit_curve(*fitted, "pow2").predict(ahead[0])[0], ahead[1])
        assert missed == pytest.approx(row.logNLS_pow2, abs=1e-5)
        if row.domain == "IC":
            shifted.append(rmsle(fit_curve(*fitted, "shift4").predict(ahead[0])[0], ahead[1]))
    assert len(shifted) == 72
    assert np.mean(shifted) <= 0.048


def _points(curve: pd.DataFrame, training: int) -> tuple[np.ndarray, np.ndarray]:
    part = curve[curve["Training"] == training]
    found = dict(zip(part["Seen Examples"], part["Loss"], strict=True))
    x = np.array(sorted(found))
    return x, np.array([found[value] for value in x])


@pytest.mark.parametrize(
    ("form", "planted"),
    [
        ("pow2", {"a": 0.6, "b": 0.3}),
        ("pow3", {"a": 0.6, "b": 0.5, "c": 0.1}),
        ("shift4", {"a": 0.6, "b": 0.5, "c": 0.1, "d": 300.0}),
    ],
)
def test_a_planted_law_is_found_exactly(form, planted):
    curve = fit_curve(X, law(X, **planted), form)
    wanted = {**planted, "a": planted["a"] * 100 ** planted["b"]}
    np.testing.assert_allclose(curve.natural[0], list(wanted.values()), rtol=1e-4)
    assert curve.mean_square[0] < 1e-12
    assert "b" not in curve.at_bounds


@pytest.mark.parametrize(
    ("form", "planted"),
    [
        ("hill", {"e0": 0.9, "b": 0.8, "c": 0.1, "x_mid": 900.0}),
        ("bnsl1", {"a": 2.0, "b": 0.1, "c": 0.05, "c1": 0.5, "d": 900.0, "f": 0.3}),
        ("bnsl1", {"a": 1.0, "b": 0.6, "c": 0.02, "c1": -0.9, "d": 3000.0, "f": 0.5}),
    ],
)
def test_planted_bends_are_found_exactly(form, planted):
    x = np.geomspace(1, 1e5, 14)
    curve = fit_curve(x, bent(x, **planted), form)
    np.testing.assert_allclose(curve.natural[0], list(planted.values()), rtol=1e-4)
    assert curve.at_bounds == ()


def bent(x: np.ndarray, **planted: float) -> np.ndarray:
    """hill, or a power law with a break, as their formulas say."""
    p = planted
    if "e0" in p:
        return p["c"] + (p["e0"] - p["c"]) / (1 + (x / p["x_mid"]) ** p["b"])
    return p["c"] + p["a"] * x ** -p["b"] * (1 + (x / p["d"]) ** (1 / p["f"])) ** (-p["c1"] * p["f"])


def test_slopes_are_those_of_the_value():
    generator = np.random.default_rng(0)
    log_x = np.linspace(-3, 3, 7)
    for law in LAWS.values():
        theta = generator.uniform(-1, 1, (1, law.num_parameters))
        _, slopes = law.log_value(theta, log_x)
        for index in range(law.num_parameters):
            step = np.zeros_like(theta)
            step[0, index] = 1e-6
            up, down = (law.log_value(theta + sign * step, log_x)[0] for sign in (1, -1))
            np.testing.assert_allclose(slopes[0, :, index], (up - down)[0] / 2e-6, atol=1e-7)


@pytest.mark.skipif(not FINETUNING.exists(), reason="the fine-tuning losses of Lin et al. are not here")
def test_hill_fits_sixty_published_curves_as_well_as_published_or_better():
    published = pd.read_csv(FINETUNING / "published_rmsd.csv")
    for name in ("flan", "gigaword"):
        table = pd.read_csv(FINETUNING / f"{name}.csv").set_index("config name")
        sizes = [column for column in table.columns if column.isdigit() and column != "0"]
        theirs = published[published["dataset"] == name.upper()].set_index("model")["rmsd_rectified"]
        assert len(theirs) == 30
        x = np.array([float(size) for size in sizes])
        for model, rmsd in theirs.items():
            curve = fit_curve(x, table.loc[model, sizes].to_numpy(float), "hill")
            assert np.sqrt(curve.mean_square[0]) <= rmsd * 1.0001


def test_a_weighted_power_law_is_the_weighted_regression_of_logarithms():
    weights = np.linspace(1, 30, len(X))
    y = law(X, noise=0.2)
    slope, _ = np.polyfit(np.log(X), np.log(y), 1, w=np.sqrt(weights))
    found = fit_curve(X, y, "pow2", weights)
    assert found.natural[0, 1] == pytest.approx(-slope, rel=1e-8)
    assert found.natural[0, 1] != pytest.approx(fit_curve(X, y, "pow2").natural[0, 1], rel=1e-3)


def test_whole_weights_count_as_repeated_points():
    counts = np.arange(1, 11)
    y = law(X, c=0.1, noise=0.05)
    once = fit_curve(X, y, "pow3", counts.astype(float))
    repeated = fit_curve(np.repeat(X, counts), np.repeat(y, counts), "pow3")
    np.testing.assert_allclose(once.natural, repeated.natural, rtol=1e-5)


@pytest.mark.skipif(not PORIAN.exists(), reason="the compute-optimal sizes of Porian et al. are not here")
def test_porians_five_experiments_give_their_weighted_exponents():
    """Columns experiment, flops, n, n_star_std (of log n); the weights are inverse variances (arXiv 2406.19146)."""
    found = [
        fit_curve(part["flops"].to_numpy(), 1 / part["n"].to_numpy(), "pow2", part["n_star_std"].to_numpy() ** -2.0)
        for _, part in pd.read_csv(PORIAN).dropna().groupby("experiment", sort=False)
    ]
    exponents = [curve.natural[0, 1] for curve in found]
    np.testing.assert_allclose(exponents, (0.8353, 0.7065, 0.6020, 0.5715, 0.4969), atol=1e-4)


def test_units_do_not_matter():
    y = law(X, c=0.1, noise=0.02)
    one, other = fit_curve(X, y, "shift4"), fit_curve(1e6 * X, 100 * y, "shift4")
    np.testing.assert_allclose(100 * one.predict(X), other.predict(1e6 * X), rtol=1e-5)


def test_more_parameters_never_fit_worse():
    y = law(X, c=0.05, d=100.0, noise=0.05)
    squares = [fit_curve(X, y, form).mean_square[0] for form in AUTO]
    assert squares[0] >= squares[1] - 1e-9
    assert squares[1] >= squares[2] - 1e-9


def test_aicc_counts_the_variance_as_a_parameter():
    y = law(X, noise=0.02)
    curve = fit_curve(X, y, "pow2")
    assert curve.aicc == pytest.approx(10 * np.log(curve.mean_square[0]) + 6 + 24 / 6)


def test_an_exponential_ends_at_the_bound_and_says_so():
    curve = fit_curve(X, 0.1 + np.exp(-X / 3e4), "shift4")
    assert "b" in curve.at_bounds
    assert curve.natural[0, 1] == pytest.approx(STEEPEST)


@pytest.mark.parametrize(("num_sizes", "by"), [(5, "AICc"), (10, "hold-out"), (30, "AICc")])
def test_the_number_of_sizes_decides_how_a_form_is_chosen(num_sizes, by):
    x = np.geomspace(50, 1e5, num_sizes)
    choice = choose(x, law(x, c=0.15, noise=0.003))
    assert choice.by == by
    assert choice.chosen in ("pow3", "shift4") or num_sizes == 5


def test_a_pure_power_law_seldom_gets_a_floor():
    x = np.geomspace(50, 1e5, 20)
    chosen = [choose(x, law(x, b=0.3, noise=0.01, seed=seed)).chosen for seed in range(8)]
    assert chosen.count("pow2") >= 6


def test_a_requested_form_is_taken():
    choice = choose(X, law(X), "shift4")
    assert (choice.chosen, choice.by) == ("shift4", "request")


def test_too_few_sizes_are_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"2 distinct sizes, and pow2 needs 3\. Add sizes"):
        choose(X[:2], law(X[:2]))
    with pytest.raises(ValueError, match="4 distinct sizes, and shift4 needs 5"):
        choose(X[:4], law(X[:4]), "shift4")


def test_the_hold_out_sees_only_smaller_sizes_and_last1_repeats_the_last():
    y = law(X, b=0.3)
    scores = {(score.form, score.num_left_out): score.rmsle for score in hold_out(X, y)}
    assert scores["pow2", 1] < 1e-6
    assert scores["last1", 1] == pytest.approx(np.log(y[-2] / y[-1]))
    changed = y.copy()
    changed[-1] *= 2
    assert {(s.form, s.num_left_out): s.rmsle for s in hold_out(X, changed)}["pow2", 1] == pytest.approx(np.log(2))


def test_intervals_hold_the_truth_and_repeat_with_their_seed():
    x = np.repeat(np.geomspace(50, 1e5, 10), 3)
    y = law(x, b=0.5, c=0.1, noise=0.03)
    curve = fit_curve(x, y, "pow3")
    draws = bootstrap_curve(x, y, curve, 300, seed=1)
    low, high = np.quantile(draws.natural, [0.025, 0.975], axis=0)
    assert ((low < (6.0, 0.5, 0.1)) & ((6.0, 0.5, 0.1) < high)).all()
    np.testing.assert_array_equal(draws.theta, bootstrap_curve(x, y, curve, 300, seed=1).theta)


def test_draws_with_too_few_sizes_are_drawn_again():
    x, y = X[:4], law(X[:4], c=0.1, noise=0.02)
    draws = bootstrap_curve(x, y, fit_curve(x, y, "pow3"), 200, seed=0)
    assert len(draws.theta) == 200
    assert np.isfinite(draws.natural).all()


def test_the_joint_region_holds_95_percent_of_draws_and_their_correlation():
    rng = np.random.default_rng(0)
    c = rng.normal(0.2, 0.01, 4000)
    b = np.exp(np.log(0.8) + 10 * (c - 0.2) + rng.normal(0, 0.1, 4000))  # correlation 1 / sqrt(2)
    region = joint_region(c, b)
    assert region.center == pytest.approx((0.2, 0.8), rel=0.01)
    assert region.correlation == pytest.approx(0.5**0.5, abs=0.03)
    # A normal law's 95 % ellipse has the radius sqrt(5.991): along c it reaches that many standard deviations.
    assert max(point[0] for point in region.outline) == pytest.approx(0.2 + 5.991**0.5 * 0.01, abs=0.001)
    assert joint_region(np.full(10, 0.2), b[:10]) is None


def test_half_of_the_budget_predicts_the_rest_of_a_planted_hill():
    x = 2.0 ** (np.arange(21) / 2)
    y = 0.2 + 0.7 / (1 + (x / 30.0) ** 0.8)
    curve = fit_curve(x, y, "hill")
    found = half_budget(x, y, curve)
    assert found.num_points == 2 and found.rmsle < 1e-4 < found.last1
    assert found.asymptote == pytest.approx(0.2, abs=1e-3) == found.asymptote_of_all
    assert half_budget(x, y, fit_curve(x, y, "pow2")) is None  # no floor
    assert half_budget(x[-5:], y[-5:], fit_curve(x[-5:], y[-5:], "hill")) is None  # too few sizes in the lower half
