"""The training loop: resumption is exact, metrics are totals over counts, and a loss that is not finite stops it."""

import json
from itertools import accumulate
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG, nll, random_params, random_rows

from scaling.config.policy import Lora
from scaling.config.training import Optimizer
from scaling.model.lora import init_adapters
from scaling.model.policy import Policy
from scaling.stage import CHECKPOINTS
from scaling.training import checkpoint
from scaling.training.checkpoint import Checkpoints
from scaling.training.loop import METRICS_FILE, Updates, run_updates, train
from scaling.training.update import Objective, OptimizerSettings, Sum, init_state

NUM_UPDATES = 40  # a line every two updates


class Killed(Exception):
    """What a kill looks like from inside the loop."""


def regression(_, params, batch):
    """Half the squared error of a linear fit, with the rows of the batch as a set of bits."""
    errors = (batch["x"] @ params["w"] - batch["y"]) * batch["weight"]
    seen = jnp.sum(batch["weight"] * 2.0 ** batch["row"])
    one = jnp.float32(1)  # a count for each micro-batch; the batches here are smaller than one
    return {"loss": Sum(0.5 * jnp.sum(errors**2), jnp.sum(batch["weight"])), "rows/seen": Sum(seen, one)}


def regression_rows(index: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(index)
    x = generator.normal(size=(4, 3)).astype(np.float32)
    y = x @ np.array([1, -2, 0.5], np.float32) + generator.normal(size=4).astype(np.float32)
    return {"x": x, "y": y, "row": np.arange(4, dtype=np.float32), "weight": np.ones(4, np.float32)}


def fit(out, kill_at=None, rows=regression_rows, num_updates=NUM_UPDATES, every_seconds=3.0):
    """Fit the regression in `out`; with kill_at the loop dies when it asks for that update's batch."""

    def batch_at(index):
        if index == kill_at:
            raise Killed
        return [rows(index)]

    out.mkdir(exist_ok=True)
    params = {"w": jnp.zeros(3)}
    updates = Updates(num_updates, batch_at, lambda index: OptimizerSettings(0.1 / (1 + index), 0.01, 1.0))
    return run_updates(params, CONFIG, updates, Objective(regression), out, every_seconds)


def lines(out) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]


def last_checkpoint(out, params):
    checkpoints = Checkpoints(out)
    state = checkpoints.restore(init_state(params))
    checkpoints.close()
    return state


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes one second a look, so that with 3 seconds every third line comes with a checkpoint."""
    clock = accumulate(iter(lambda: 1, 0))
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.fixture
def unbroken(tmp_path, ticking):
    return tmp_path / "unbroken", fit(tmp_path / "unbroken")


def assert_equal_runs(out, result, expected_out, expected):
    """Bit for bit: the params, the numbers returned, and every byte of the metrics."""
    jax.tree.map(np.testing.assert_array_equal, result[0], expected[0])
    assert result[1] == expected[1]
    assert (out / METRICS_FILE).read_bytes() == (expected_out / METRICS_FILE).read_bytes()


@pytest.mark.parametrize("kill_at", [0, 1, 5, 6, 7, 23, 39])
def test_a_run_killed_between_checkpoints_ends_as_the_unbroken_run(kill_at, unbroken, tmp_path):
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        fit(out, kill_at)
    if kill_at == 23:  # the case at hand: two lines were written after the last checkpoint
        assert (lines(out)[-1]["update"], [path.name for path in (out / CHECKPOINTS).iterdir()]) == (22, ["18"])
    assert_equal_runs(out, fit(out), *unbroken)


def test_a_run_killed_again_and_again_ends_as_the_unbroken_run(unbroken, tmp_path):
    out = tmp_path / "killed"
    for kill_at in (13, 14, 27, 27, 38):
        with pytest.raises(Killed):
            fit(out, kill_at)
    assert_equal_runs(out, fit(out), *unbroken)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["all params", "lora"])
def test_a_policy_resumes_with_its_optimizer_state_bit_for_bit(lora, tmp_path, ticking):
    def params_of(seed):
        """What is trained, and what it adds to."""
        params = random_params(seed)
        return (params, {}) if lora is None else (init_adapters(params, lora, jax.random.key(seed)), params)

    def pretrain(out, kill_at=None):
        def batch_at(index):
            if index == kill_at:
                raise Killed
            return [random_rows(index)]

        out.mkdir(exist_ok=True)
        trained, frozen = params_of(0)
        updates = Updates(8, batch_at, lambda index: OptimizerSettings(1e-3 * (1 + index), 0.1, 1.0))
        return run_updates(trained, CONFIG, updates, Objective(nll), out, 2.0, lora, frozen)

    expected, out = pretrain(tmp_path / "unbroken"), tmp_path / "killed"
    with pytest.raises(Killed):
        pretrain(out, kill_at=5)
    assert_equal_runs(out, pretrain(out), tmp_path / "unbroken", expected)
    ours, theirs = (last_checkpoint(folder, params_of(1)[0]) for folder in (out, tmp_path / "unbroken"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert int(ours.update_index) == 8


def test_a_line_that_the_kill_cut_is_written_again(unbroken, tmp_path):
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        fit(out, 23)
    with (out / METRICS_FILE).open("a") as metrics_file:
        metrics_file.write('{"update": 24, "train/lo')
    assert_equal_runs(out, fit(out), *unbroken)


def test_a_run_killed_after_its_last_checkpoint_returns_the_same_numbers(tmp_path, ticking):
    """The stage died after training, for instance in its evaluation: nothing is left to do but to report."""
    expected = fit(tmp_path / "out", every_seconds=0)
    written = (tmp_path / "out" / METRICS_FILE).read_bytes()
    again = fit(tmp_path / "out", kill_at=0, every_seconds=0)  # asks for no batch
    jax.tree.map(np.testing.assert_array_equal, again[0], expected[0])
    assert again[1] == expected[1]
    assert (tmp_path / "out" / METRICS_FILE).read_bytes() == written


def test_lines_left_behind_without_a_checkpoint_are_dropped(tmp_path, ticking):
    expected = fit(tmp_path / "out", every_seconds=1e9)
    written = (tmp_path / "out" / METRICS_FILE).read_bytes()
    again = fit(tmp_path / "out", every_seconds=1e9)
    assert again[1] == expected[1]
    assert (tmp_path / "out" / METRICS_FILE).read_bytes() == written


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_with_the_metric_and_the_window(value, tmp_path):
    def rows(index):
        batch = regression_rows(index)
        batch["y"] = batch["y"] * (value if index == 11 else 1)
        return batch

    with pytest.raises(FloatingPointError, match=rf"train/loss is {value} in updates 11 to 12; lower the learning"):
        fit(tmp_path, rows=rows, every_seconds=0)
    assert [line["update"] for line in lines(tmp_path)] == [2, 4, 6, 8, 10]  # the windows before it are kept
    assert int(last_checkpoint(tmp_path, {"w": jnp.zeros(3)}).update_index) == 10  # and nothing broken is saved


def test_a_metric_is_named_in_an_error_as_in_the_metrics_file(tmp_path):
    def rows(index):
        return {**regression_rows(index), "row": np.full(4, 200, np.float32)}  # 2^200 is no float32

    with pytest.raises(FloatingPointError, match=r"^rows/seen is inf in updates 1 to 2;"):
        fit(tmp_path, rows=rows)


def test_a_window_is_totals_over_counts(tmp_path):
    """Batches of 4, 1, 4, 1 ... rows at a fixed policy: the mean over rows is not the mean of the batch means."""

    def rows(index):
        batch = regression_rows(index)
        batch["weight"] = np.array([1, 1, 1, 1] if index % 2 == 0 else [1, 0, 0, 0], np.float32)
        return batch

    updates = Updates(40, lambda index: [rows(index)], lambda _: OptimizerSettings(0.0, 0.0, 1.0))
    run_updates({"w": jnp.zeros(3)}, CONFIG, updates, Objective(regression), tmp_path)
    for window, line in enumerate(lines(tmp_path)):
        first, second = regression_rows(2 * window)["y"], regression_rows(2 * window + 1)["y"][:1]
        assert line["train/loss"] == pytest.approx(0.5 * (np.sum(first**2) + np.sum(second**2)) / 5, rel=1e-5)


@pytest.mark.parametrize(("num_updates", "expected"), [(1, [1]), (7, [*range(1, 8)]), (45, [*range(2, 45, 2), 45])])
def test_metrics_are_written_in_about_twenty_windows_and_the_last_is_returned(num_updates, expected, tmp_path):
    _, metrics = fit(tmp_path, num_updates=num_updates, every_seconds=1e9)
    written = lines(tmp_path)
    assert [line["update"] for line in written] == expected
    assert set(written[0]) == {"update", "train/loss", "train/gradient_norm", "rows/seen"}
    assert {**metrics, "update": num_updates} == {**written[-1], "num_updates": float(num_updates)}


def test_every_row_is_trained_on_once_an_epoch_in_an_order_that_the_seed_decides(tmp_path):
    """Ten rows in batches of four: 4, 4 and 2, which `rows/seen` of each update holds as bits."""
    generator = np.random.default_rng(0)
    arrays = {"x": generator.normal(size=(10, 3)), "y": generator.normal(size=10), "row": np.arange(10)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()} | {"tokens": np.zeros((10, 8), int)}
    lengths = np.full(10, 8)
    settings = Optimizer(learning_rate=0.1, epochs=3, batch_size=4)
    start, orders = Policy({"w": jnp.zeros(3)}, CONFIG), {}
    for seed in (0, 1):
        out = tmp_path / str(seed)
        out.mkdir()
        _, metrics = train(start, arrays, lengths, Objective(regression), settings, seed, out)
        bits = [int(line["rows/seen"]) for line in lines(out)]
        assert metrics["num_updates"] == len(bits) == 9
        for epoch in range(3):
            batches = bits[3 * epoch : 3 * epoch + 3]
            assert [batch.bit_count() for batch in batches] == [4, 4, 2]
            assert sum(batches) == 2**10 - 1  # together every row, none twice
        orders[seed] = bits
    assert orders[0] != orders[1]
    assert len({tuple(orders[0][3 * epoch : 3 * epoch + 3]) for epoch in range(3)}) == 3


def test_training_fits_a_line(tmp_path):
    """Without noise the least-squares params are the planted ones; the filler of the last batch pulls at nothing."""
    planted = np.array([1, -2, 0.5], np.float32)
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    arrays = {"x": x, "y": x @ planted, "row": np.zeros(10, np.float32), "tokens": np.zeros((10, 8), int)}
    settings = Optimizer(learning_rate=0.1, epochs=100, batch_size=4)
    start, lengths = Policy({"w": jnp.zeros(3)}, CONFIG), np.full(10, 8)
    params, metrics = train(start, arrays, lengths, Objective(regression), settings, 0, tmp_path)
    np.testing.assert_allclose(params["w"], planted, atol=0.01)  # Adam moves by 0.01 an update at the end
    assert metrics["train/loss"] < 1e-4
