"""Advantage-weighted regression: weights, the loss against NumPy, and SFT as the case of equal advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from finite_differences import gradient, logps_of
from stage_config import whole
from tiny_chain import OPTIMIZER, PROBLEMS, SYNTHETIC, TOKENIZER, Chain, by_hand, tokens_of, values_by_hand

from algorithms import awr
from algorithms.awr import step_weights, weighted_nll
from algorithms.sft import nll
from data.records import read_jsonl

RIGHT = SYNTHETIC[0]["completion"]  # steps end after 6, 11 and 14 tokens
WRONG = "1 2 = 3 3 ; 3 3 = 7 ; # 7"


def weigh(root, inputs, **settings):
    (root / "weighted").mkdir()
    config = {"problems": PROBLEMS, "weighted_steps": {"beta": 0.5, "max_weight": 20.0, **settings}}
    numbers = awr.weigh_steps(config, inputs, root / "weighted")
    return pd.read_parquet(root / "weighted/weighted_steps.parquet"), numbers


def test_weights_are_exp_of_a_over_beta_up_to_the_limit_and_never_overflow():
    np.testing.assert_allclose(step_weights([0.0, 0.5, -0.5], 0.5, 20.0), [1.0, np.e, 1 / np.e])
    np.testing.assert_allclose(step_weights([1.0, -1.0], 1e-4, 20.0), [20.0, 0.0])


def test_all_steps_of_right_and_wrong_traces_are_weighted_and_a_token_weighs_1_on_average(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT, WRONG]})
    values = {(0, 0): ([0.25, 0.75, 1.0], 0.5), (0, 1): ([0.75, 0.0, 0.0], 0.5)}
    inputs["step_values"] = values_by_hand(tmp_path, inputs, values)
    frame, numbers = weigh(tmp_path, inputs)
    assert [list(tokens) for tokens in frame["tokens"]] == [tokens_of(RIGHT), tokens_of(WRONG)]
    assert list(frame["prompt"][0]) == TOKENIZER.encode_prompt(SYNTHETIC[0]["prompt"])
    gains = np.array([[-0.25, 0.5, 0.25], [0.25, -0.75, 0.0]])
    expected = np.repeat(np.exp(gains / 0.5), [6, 5, 3], axis=1)
    np.testing.assert_allclose(np.stack(frame["mask"]), expected / expected.mean(), rtol=1e-12)
    weights = np.exp(gains / 0.5).ravel()
    assert numbers["effective_steps_fraction"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum() / 6)
    assert (numbers["num_traces"], numbers["num_learned_steps"], numbers["clipped_steps_fraction"]) == (2, 6, 0)


def test_a_limit_cuts_and_is_counted(tmp_path):
    inputs = by_hand(tmp_path, {0: [RIGHT]})
    inputs["step_values"] = values_by_hand(tmp_path, inputs, {(0, 0): ([0.25, 0.5, 1.0], 0.25)})  # 0, 1/4, 1/2
    frame, numbers = weigh(tmp_path, inputs, max_weight=1.2)
    expected = np.repeat([1.0, 1.2, 1.2], [6, 5, 3])
    np.testing.assert_allclose(frame["mask"][0], expected / expected.mean())
    assert numbers["clipped_steps_fraction"] == pytest.approx(2 / 3)


def random_batch(seed=0, size=3, length=6, vocabulary=4):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(0.1, 3.0, size=(size, length)) * (np.arange(length) >= rng.integers(1, 4, size=(size, 1)))
    batch = {
        "tokens": rng.integers(0, vocabulary, (size, length)).astype(np.int32),
        "mask": mask.astype(np.float32),
        "weight": np.array([1.0] * (size - 1) + [0.0], np.float32),
    }
    return rng.normal(size=(size, length, vocabulary)), batch


def value_and_gradient(loss, batch, logits):
    def mean_loss(params):
        found = loss(lambda params, tokens: params, params, batch)["loss"]
        return found.total / found.count

    return jax.jit(jax.value_and_grad(mean_loss))(jnp.asarray(logits, jnp.float32))


def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64():
    logits, batch = random_batch()
    kept = batch["weight"] > 0

    def expected(at):
        weights = batch["mask"].astype(float)
        return -logps_of(at, batch["tokens"], weights)[kept].sum() / (weights[kept] > 0).sum()

    value, by_logits = value_and_gradient(weighted_nll, batch, logits)
    assert float(value) == pytest.approx(expected(logits), rel=1e-5)
    found = gradient(expected, logits)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(by_logits, found, atol=1e-5)


def test_with_weights_of_1_it_is_the_nll():
    logits, batch = random_batch()
    batch["mask"] = np.float32(batch["mask"] > 0)
    ours, theirs = (value_and_gradient(loss, batch, logits) for loss in (weighted_nll, nll))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_with_equal_advantages_it_is_sft_on_the_traces(tmp_path):
    (tmp_path / "chain").mkdir()
    chain = Chain(tmp_path / "chain", "sft")
    synthetic = read_jsonl(chain["synthetic"] / "synthetic.jsonl")
    inputs = by_hand(tmp_path, {problem: [row["completion"]] for problem, row in enumerate(synthetic)}, synthetic)
    values = {(problem, 0): ([0.5, 0.75, 1.0], 0.25) for problem in range(len(synthetic))}
    weigh(tmp_path, {**inputs, "step_values": values_by_hand(tmp_path, inputs, values)})
    (tmp_path / "out").mkdir()
    config = whole({"problems": PROBLEMS, "awr": {**OPTIMIZER, "start": "base"}, "seed": 0})
    stage = {"start": chain["base"], "synthetic": chain["synthetic"], "weighted_steps": tmp_path / "weighted"}
    assert awr.run(config, stage, tmp_path / "out") == pytest.approx(chain.numbers["sft"], rel=1e-4)
