"""The decoder: equal to plain numpy, causal, blind to padding, and the same through its cache."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import numpy_transformer
from tiny_policy import CONFIG, SHAPES, TINY, apply, random_params

from scaling.model.transformer import architecture

# Logits are of order 1 and pass two layers of float32 sums of at most 32 terms: a few hundred roundings of 6e-8,
# 1e-5 at the worst. A wrong formula is off by 1e-2 or more.
TOLERANCE = 2e-5
SEEDS = range(5)
LENGTHS = (16, 9, 1, 12)
PROMPT_LENGTH, NUM_SLOTS = 8, 16


@pytest.fixture(scope="module")
def prefill():
    return jax.jit(TINY.prefill, static_argnums=3)


@pytest.fixture(scope="module")
def decode():
    return jax.jit(TINY.decode)


def random_tokens(seed: int, rows: int = 4, length: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, (rows, length)).astype(np.int32)


@pytest.mark.parametrize("seed", SEEDS)
def test_logits_equal_those_of_a_plain_numpy_decoder(seed):
    params, tokens = random_params(seed), random_tokens(seed)
    expected = np.stack([numpy_transformer.forward(params, CONFIG, row) for row in tokens])
    logits = np.asarray(apply(params, tokens))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
    assert expected.std() > 0.1  # logits that say something: the comparison is not of zeros


@pytest.mark.parametrize("seed", SEEDS)
def test_a_token_changes_no_logits_before_it_and_its_own(seed):
    params, tokens = random_params(seed), random_tokens(seed)
    changed_at = int(np.random.default_rng(seed).integers(1, 16))
    changed = tokens.copy()
    changed[:, changed_at] = (changed[:, changed_at] + 1) % CONFIG.vocab_size
    before, after = np.asarray(apply(params, tokens)), np.asarray(apply(params, changed))
    # Bit for bit: a masked weight underflows to zero, and zero times a finite value adds nothing.
    np.testing.assert_array_equal(after[:, :changed_at], before[:, :changed_at])
    assert np.all(np.abs(after[:, changed_at] - before[:, changed_at]).max(axis=-1) > 1e-3)


def test_right_padding_changes_nothing():
    params, tokens = random_params(0), random_tokens(0)
    for filler in (0, 5):
        padded = np.full_like(tokens, filler)
        for row, length in enumerate(LENGTHS):
            padded[row, :length] = tokens[row, :length]
        logits = np.asarray(apply(params, padded))
        for row, length in enumerate(LENGTHS):
            expected = numpy_transformer.forward(params, CONFIG, tokens[row, :length])
            np.testing.assert_allclose(logits[row, :length], expected, atol=TOLERANCE, rtol=0)
    wider = np.pad(tokens, ((0, 0), (0, 8)))
    np.testing.assert_allclose(apply(params, wider)[:, :16], apply(params, tokens), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_prefill_of_left_padded_prompts_and_cached_decoding_equal_the_full_pass(seed, prefill, decode):
    params, tokens = random_params(seed), random_tokens(seed)
    lengths = (8, 5, 1, 2)
    starts = np.array([PROMPT_LENGTH - length for length in lengths], np.int32)
    prompts = np.full((4, PROMPT_LENGTH), 7, np.int32)  # a real token as filler: nothing may look at it
    for row, start in enumerate(starts):
        prompts[row, start:] = tokens[row, : lengths[row]]
    expected = np.asarray(apply(params, tokens))
    logits, caches = prefill(params, prompts, starts, NUM_SLOTS)
    for new in range(NUM_SLOTS - PROMPT_LENGTH):
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(logits[row], expected[row, length - 1 + new], atol=TOLERANCE, rtol=0)
        token = np.array([tokens[row, length + new] if length + new < 16 else 0 for row, length in enumerate(lengths)])
        logits, caches = decode(params, token.astype(np.int32), jnp.int32(PROMPT_LENGTH + new), starts, caches)


def test_the_output_projection_is_the_embedding():
    params = random_params(0)
    assert set(params) == {"embedding", "layers", "final_norm"}
    doubled = {**params, "embedding": {"embedding": 2 * params["embedding"]["embedding"]}}
    # It enters twice: at the input, where the first norm hides most of the change, and at the output.
    expected = numpy_transformer.forward(doubled, CONFIG, random_tokens(0)[0])
    np.testing.assert_allclose(apply(doubled, random_tokens(0))[0], expected, atol=2 * TOLERANCE, rtol=0)


def test_init_depends_on_the_key_alone():
    init = jax.jit(architecture(replace(CONFIG, num_layers=1)).init)
    first, again, other = init(jax.random.key(3)), init(jax.random.key(3)), init(jax.random.key(4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["embedding"]["embedding"], other["embedding"]["embedding"])
    kernels = first["layers"][0]["attention"]
    assert not np.array_equal(kernels["key"]["kernel"], kernels["value"]["kernel"])  # no key is used twice


def test_no_product_or_sum_relies_on_rank_promotion():
    params = SHAPES
    tokens, starts = jax.ShapeDtypeStruct((2, 8), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32)
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(TINY.apply, params, tokens)
        logits, caches = jax.eval_shape(lambda *given: TINY.prefill(*given, 12), params, tokens, starts)
        slot = jax.ShapeDtypeStruct((), jnp.int32)
        decoded, _ = jax.eval_shape(TINY.decode, params, starts, slot, starts, caches)
    assert logits.shape == decoded.shape == (2, CONFIG.vocab_size)
