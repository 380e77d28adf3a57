"""One update: known answers for clipping, decay, Adam and the schedule; nothing depends on how a batch is cut."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG, cut, nll, random_params, random_rows

from scaling.training.update import OptimizerSettings, Sum, init_state, learning_rate_at, make_update

LEARNING_RATE = 1e-3
TRACES = []


def linear(_, params, batch):
    """A loss whose gradient is the mean of x, whatever the params are; every trace leaves a mark."""
    TRACES.append(1)
    return {"loss": Sum(jnp.sum(batch["x"] * params["w"] * batch["scale"]), jnp.float32(len(batch["x"])))}


def settings(learning_rate=LEARNING_RATE, weight_decay=0.0, max_gradient_norm=1.0) -> OptimizerSettings:
    return OptimizerSettings(*map(jnp.float32, (learning_rate, weight_decay, max_gradient_norm)))


@cache
def trajectory(micro_batch_size: int):
    """Params and sums after each of four updates on batches of eight, fetched from the device."""
    update, state, fetched = make_update(CONFIG, nll), init_state(random_params(0)), []
    for index in range(4):
        state, sums = update(state, cut(random_rows(index), micro_batch_size), {}, settings())
        fetched.append(jax.device_get((state.params, sums)))
    return fetched


def linear_updates(gradients, start=(1.0, -2.0), scale=1.0, **given):
    """Params after each update on batches whose mean x is that of `gradients`, and the last state and sums."""
    update, state, params = make_update(CONFIG, linear), init_state({"w": jnp.array(start)}), []
    for gradient in gradients:
        # Two rows that differ from the mean by the same amount: the mean is what counts.
        rows = np.array([gradient, gradient], np.float32) + np.array([[0.5], [-0.5]], np.float32)
        state, sums = update(state, [{"x": rows}], {"scale": jnp.float32(scale)}, settings(**given))
        params.append(np.asarray(state.params["w"]))
    return params, jax.device_get(state), jax.device_get(sums)


def adam_by_hand(gradients, start, learning_rate, weight_decay=0.0):
    """AdamW in float64 (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), decay scaled by the rate."""
    weights, first, second, params = np.array(start), np.zeros(2), np.zeros(2), []
    for time, gradient in enumerate(np.array(gradients), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        direction = first / (1 - 0.9**time) / (np.sqrt(second / (1 - 0.95**time)) + 1e-8)
        weights = weights - learning_rate * (direction + weight_decay * weights)
        params.append(weights)
    return params


# Cutting a batch another way sums the same float32 gradients in another order. Adam's direction is a ratio of
# gradient means, of order 1 whatever the gradient is, so a rounding of 1e-7 relative to the largest entries can move
# the direction of an entry a thousand times smaller by 1e-4 an update. One percent of a learning rate over four
# updates bounds it; a mean of micro-batch means moves params by most of a learning rate.
@pytest.mark.parametrize("micro_batch_size", [4, 1])
def test_a_trajectory_does_not_depend_on_how_the_batch_is_cut(micro_batch_size):
    """1 x 8 against 2 x 4 and 8 x 1."""
    for (params, sums), (expected, expected_sums) in zip(trajectory(micro_batch_size), trajectory(8), strict=True):
        for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=LEARNING_RATE / 100, rtol=0)
        for name in ("loss", "gradient_norm"):
            ours, theirs = ((one[name].total, one[name].count) for one in (sums, expected_sums))
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_trajectory_moves_every_parameter():
    """So that the test before compares something."""
    start, (end, _) = random_params(0), trajectory(8)[-1]
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(end), strict=True):
        assert np.abs(after - before).max() > LEARNING_RATE


def test_the_sums_are_totals_over_all_micro_batches():
    for micro_batch_size in (8, 1):
        _, sums = trajectory(micro_batch_size)[0]
        assert sums["loss"].count == 1 + 12 + 2 + 9 + 1 + 3 + 11 + 5
        assert sums["gradient_norm"].count == 1


def test_an_update_compiles_once_whatever_the_batch_the_constants_and_the_settings():
    linear_updates([(3.0, 4.0)])
    traced = len(TRACES)
    linear_updates([(1.0, 2.0), (-3.0, 0.5)], start=(5.0, 6.0), learning_rate=0.5, weight_decay=0.1)
    linear_updates([(0.0, 0.0)], scale=2.0, max_gradient_norm=0.3)
    assert traced > 0 and len(TRACES) == traced


def test_equal_shapes_and_losses_share_one_update():
    assert make_update(CONFIG, nll) is make_update(CONFIG, nll)
    assert make_update(CONFIG, nll) is not make_update(CONFIG, linear)


def test_rows_of_no_weight_change_nothing():
    rows, other = random_rows(0), random_rows(0)
    rows["weight"][5:] = other["weight"][5:] = 0
    other["tokens"][5:] = 9
    other["mask"][5:] = 1
    update = make_update(CONFIG, nll)
    ours, theirs = (update(init_state(random_params(0)), [batch], {}, settings()) for batch in (rows, other))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert ours[1]["loss"].count == 1 + 12 + 2 + 9 + 1


def test_a_batch_that_teaches_nothing_moves_nothing():
    rows = random_rows(0)
    rows["weight"][:] = 0
    state, sums = make_update(CONFIG, nll)(init_state(random_params(0)), [rows], {}, settings())
    jax.tree.map(np.testing.assert_array_equal, dict(state.params), random_params(0))
    assert (sums["loss"].total, sums["loss"].count) == (0, 0) and sums["gradient_norm"].total == 0


def test_prompt_targets_get_no_gradient():
    """The gradient is the sum of those of the completion tokens alone: prompts and padding add nothing to it."""
    update = make_update(CONFIG, nll)

    def gradient(rows):
        """Before division: Adam's first mean is a tenth of the gradient of the mean over the counted tokens."""
        state, sums = update(init_state(random_params(0)), [rows], {}, settings(max_gradient_norm=1e9))
        return jax.tree.map(lambda leaf: 10 * float(sums["loss"].count) * np.asarray(leaf), state.optimizer_state.mu)

    rows = random_rows(0)
    parts = []
    for parity in (0, 1):
        part = random_rows(0)
        part["mask"][:, parity::2] = 0
        parts.append(gradient(part))
    padded = random_rows(0)
    padded["tokens"][padded["mask"].cumsum(axis=1) == padded["mask"].sum(axis=1, keepdims=True)] = 9
    ends = random_rows(0)["mask"].sum(axis=1).astype(int) + 2  # the last token of each completion, which stays
    padded["tokens"][np.arange(8), ends] = rows["tokens"][np.arange(8), ends]
    whole = gradient(rows)
    # Sums of 44 gradients of order 1 in float32: 44 x 6e-8 each way, a few times over.
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a + b, c, atol=5e-5, rtol=0), *parts, whole)
    jax.tree.map(np.testing.assert_array_equal, gradient(padded), whole)


def test_the_callers_params_survive_the_donation():
    params = random_params(0)
    make_update(CONFIG, nll)(init_state(params), [random_rows(0)], {}, settings())
    jax.tree.map(np.testing.assert_array_equal, params, random_params(0))


def test_a_gradient_beyond_the_largest_norm_is_scaled_to_it():
    """(3, 4) has norm 5: clipped to 1 it is (0.6, 0.8). Adam's first means are a tenth of it, and 0.05 of squares."""
    _, state, sums = linear_updates([(3.0, 4.0)], max_gradient_norm=1.0)
    np.testing.assert_allclose(state.optimizer_state.mu["w"], [0.06, 0.08], rtol=1e-6)
    np.testing.assert_allclose(state.optimizer_state.nu["w"], [0.05 * 0.36, 0.05 * 0.64], rtol=1e-6)
    np.testing.assert_allclose(sums["gradient_norm"].total, 5, rtol=1e-6)  # reported as it was


def test_a_gradient_within_the_largest_norm_is_left_alone():
    _, state, _ = linear_updates([(3.0, 4.0)], max_gradient_norm=5.5)
    np.testing.assert_allclose(state.optimizer_state.mu["w"], [0.3, 0.4], rtol=1e-6)


def test_the_first_update_moves_each_parameter_by_the_learning_rate():
    """Adam's direction is then gradient / |gradient|, up to epsilon."""
    params, _, _ = linear_updates([(3.0, -4.0)], learning_rate=0.01)
    np.testing.assert_allclose(params[0], [1 - 0.01, -2 + 0.01], rtol=1e-6)


def test_three_updates_equal_adam_by_hand():
    gradients = [(3.0, 4.0), (0.3, -0.4), (0.0, 0.5)]
    clipped = [(0.6, 0.8), (0.3, -0.4), (0.0, 0.5)]  # only the first is longer than 1
    params, _, _ = linear_updates(gradients, learning_rate=0.1, weight_decay=0.2)
    np.testing.assert_allclose(params, adam_by_hand(clipped, (1.0, -2.0), 0.1, 0.2), rtol=1e-5)


def test_weight_decay_shrinks_params_by_the_learning_rate_times_itself_apart_from_the_gradient():
    """No gradient: 1 - 0.1 x 0.5 = 0.95 of the params is left, and 0.95^2 after two updates."""
    params, _, _ = linear_updates([(0.0, 0.0)] * 2, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(params, [[0.95, -1.9], [0.95**2, -2 * 0.95**2]], rtol=1e-6)


def test_constants_reach_the_loss():
    norms = [linear_updates([(3.0, 4.0)], scale=scale)[2]["gradient_norm"].total for scale in (1.0, 2.0)]
    assert norms == pytest.approx([5, 10])


def test_the_learning_rate_rises_linearly_then_follows_a_cosine_to_a_tenth():
    """100 updates, 10 of warm-up, 90 of decay, peak 2."""
    rates = [learning_rate_at(2.0, 0.1, "cosine", 100, index) for index in range(100)]
    np.testing.assert_allclose(rates[:10], [0.2 * (index + 1) for index in range(10)], rtol=1e-6)
    for index in (10, 39, 54, 99):
        done = (index - 9) / 90
        expected = 2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
        assert rates[index] == pytest.approx(expected, rel=1e-5)
    assert rates[54] == pytest.approx(1.1)  # halfway: (1 + 0.1) / 2 of the peak
    assert rates[-1] == pytest.approx(0.2)


def test_a_constant_schedule_rises_and_stays():
    rates = [learning_rate_at(2.0, 0.1, "constant", 100, index) for index in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (index + 1) for index in range(10)])
    assert rates[10:] == [2.0] * 90


@pytest.mark.parametrize(("num_updates", "warmup_fraction"), [(1, 0.0), (1, 1.0), (3, 0.0), (3, 1.0)])
def test_short_runs_and_extreme_warm_ups_have_a_learning_rate_that_reaches_the_peak(num_updates, warmup_fraction):
    rates = [learning_rate_at(2.0, warmup_fraction, "cosine", num_updates, index) for index in range(num_updates)]
    assert max(rates) == pytest.approx(2.0) and min(rates) > 0
