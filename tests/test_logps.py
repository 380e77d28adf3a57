"""Log-probabilities: shifted by one, masked, summed in float32, and blind to what the mask hides."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import apply, random_params

from scaling.training.logps import completion_logps, token_logps

SUMMED = jax.jit(jax.grad(lambda logits, tokens, mask: completion_logps(logits, tokens, mask).sum()))


def random_batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 2, (3, 8, 32)).astype(np.float32), generator.integers(0, 32, (3, 8)).astype(np.int32)


def test_uniform_logits_give_ln_v():
    tokens = random_batch(0)[1]
    np.testing.assert_allclose(token_logps(jnp.full((3, 8, 32), 5.0), tokens)[:, 1:], -math.log(32), rtol=1e-6)
    mask = np.array([[0, 0, 1, 1, 1, 0, 0, 0]] * 3, np.float32)
    np.testing.assert_allclose(completion_logps(jnp.zeros((3, 8, 32)), tokens, mask), -3 * math.log(32), rtol=1e-6)


def test_a_policy_with_a_zero_embedding_is_uniform():
    params = {**random_params(0), "embedding": {"embedding": jnp.zeros((32, 16))}}
    tokens = np.arange(16, dtype=np.int32)[None].repeat(4, axis=0)
    np.testing.assert_allclose(token_logps(apply(params, tokens), tokens)[:, 1:], -math.log(32), rtol=1e-6)


def test_a_token_is_predicted_by_the_logits_of_the_position_before_it():
    logits, tokens = random_batch(1)
    logps = np.asarray(token_logps(logits, tokens))
    for row in range(3):
        for position in range(1, 8):
            before = logits[row, position - 1].astype(np.float64)
            expected = before[tokens[row, position]] - np.log(np.exp(before).sum())
            assert logps[row, position] == pytest.approx(expected, abs=1e-5)


def test_the_first_token_which_nothing_predicts_counts_zero():
    logits, tokens = random_batch(2)
    np.testing.assert_array_equal(token_logps(logits, tokens)[:, 0], 0)


def test_half_precision_logits_are_reduced_in_float32():
    logits, tokens = random_batch(3)
    halves = jnp.asarray(logits, jnp.bfloat16)
    logps = token_logps(halves, tokens)
    assert logps.dtype == jnp.float32
    np.testing.assert_array_equal(logps, token_logps(halves.astype(jnp.float32), tokens))


@pytest.mark.parametrize("seed", range(5))
def test_only_logits_that_predict_a_completion_token_get_a_gradient(seed):
    logits, tokens = random_batch(seed)
    prompt_lengths = np.random.default_rng(seed).integers(1, 5, 3)
    lengths = prompt_lengths + np.random.default_rng(seed + 9).integers(1, 4, 3)
    positions = np.arange(8)
    mask = (positions >= prompt_lengths[:, None]) & (positions < lengths[:, None])
    gradient = np.asarray(SUMMED(logits, tokens, mask.astype(np.float32)))
    predicts = np.roll(mask, -1, axis=1)  # position t predicts token t + 1
    assert np.all(gradient[~predicts] == 0)
    assert np.all(np.abs(gradient[predicts]).max(axis=-1) > 0)


def test_logits_of_other_sequences_are_refused():
    with pytest.raises(ValueError, match=r"logits are \(3, 7, 32\), tokens \(3, 8\)"):
        token_logps(jnp.zeros((3, 7, 32)), random_batch(0)[1])
