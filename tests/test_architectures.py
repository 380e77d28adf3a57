"""What checkpoints add to the decoder: each feature equals plain numpy, alone, all at once, and through the cache."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import numpy_transformer
from tiny_policy import CONFIG, random_params

from scaling.model.sizes import ModelConfig, RopeScaling
from scaling.model.transformer import architecture, frequencies

# Two layers of float32 sums of at most 32 terms: a few hundred roundings of 6e-8. A feature left out changes
# logits by 1e-2 or more, which the test of influence holds.
TOLERANCE = 2e-5
LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, 64)  # one of the three pairs is kept, one stretched, one between
FEATURES = {
    "untied head": {"untied_head": True},
    "biases of queries, keys and values": {"qkv_bias": True},
    "bias of the output": {"output_bias": True},
    "norms of queries and keys": {"qk_norm": True},
    "linear scaling": {"rope_scaling": RopeScaling("linear", 4.0)},
    "scaling of llama3": {"rope_scaling": LLAMA3},
    "another theta": {"rope_theta": 1e6},
    "another epsilon": {"norm_epsilon": 0.1},
    "a sliding window": {"sliding_window": 5},
    "one key head": {"num_kv_heads": 1},
}
EVERYTHING = {name: value for feature in FEATURES.values() for name, value in feature.items()}
VARIANTS = {**FEATURES, "everything": EVERYTHING}
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 16)).astype(np.int32)


def params_of(config: ModelConfig):
    return random_params(0, jax.eval_shape(architecture(config).init, jax.random.key(0)))


@pytest.mark.parametrize("feature", VARIANTS.values(), ids=VARIANTS)
def test_a_feature_equals_plain_numpy_and_matters(feature):
    config = replace(CONFIG, **feature)
    params = params_of(config)
    expected = np.stack([numpy_transformer.forward(params, config, row) for row in TOKENS])
    np.testing.assert_allclose(architecture(config).apply(params, TOKENS), expected, atol=TOLERANCE, rtol=0)
    if set(params_of(CONFIG)) == set(params) and "num_kv_heads" not in feature:
        without = architecture(CONFIG).apply(_only_known(params, params_of(CONFIG)), TOKENS)
        assert np.abs(np.asarray(without) - expected).max() > 1e-2


@pytest.mark.parametrize("feature", [{"sliding_window": 5}, EVERYTHING], ids=["window", "everything"])
def test_the_cache_equals_the_full_pass(feature):
    config = replace(CONFIG, **feature)
    model, params = architecture(config), params_of(config)
    expected = np.asarray(model.apply(params, TOKENS))
    lengths, padded = (8, 3, 1), 8
    starts = np.array([padded - length for length in lengths], np.int32)
    prompts = np.full((3, padded), 7, np.int32)
    for row, length in enumerate(lengths):
        prompts[row, padded - length :] = TOKENS[row, :length]
    logits, caches = model.prefill(params, prompts, starts, 16)
    decode = jax.jit(model.decode)
    for new in range(16 - padded):
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(logits[row], expected[row, length - 1 + new], atol=TOLERANCE, rtol=0)
        token = np.array([TOKENS[row, length + new] for row, length in enumerate(lengths)], np.int32)
        logits, caches = decode(params, token, jnp.int32(padded + new), starts, caches)


def test_a_window_changes_nothing_for_sequences_no_longer_than_it():
    params = params_of(CONFIG)
    plain = architecture(CONFIG).apply(params, TOKENS)
    np.testing.assert_array_equal(architecture(replace(CONFIG, sliding_window=16)).apply(params, TOKENS), plain)
    narrow = np.asarray(architecture(replace(CONFIG, sliding_window=15)).apply(params, TOKENS))
    np.testing.assert_array_equal(narrow[:, :15], np.asarray(plain)[:, :15])
    assert np.abs(narrow[:, 15] - plain[:, 15]).max() > 1e-4


def test_scaled_frequencies_are_those_derived_by_hand():
    """Theta 10^4 and E = 6 turn 1, 0.0464 and 0.00215 radians a position: 10, 0.47 and 0.022 turns in 64 positions."""
    config = replace(CONFIG, rope_theta=1e4, rope_scaling=LLAMA3)
    fast, slow, slowest = 1.0, 10 ** (-4 / 3), 10 ** (-8 / 3)
    np.testing.assert_allclose(frequencies(config), [fast, slow / 8, slowest / 8], rtol=1e-6)
    between = replace(config, rope_scaling=replace(LLAMA3, original_max_positions=340))
    kept = (340 * slow / (2 * np.pi) - 1) / 3  # 2.51 turns: half-way between 1 and 4
    np.testing.assert_allclose(frequencies(between)[1], kept * slow + (1 - kept) * slow / 8, rtol=1e-6)


def test_more_tokens_than_the_policy_was_made_for_are_refused():
    config = replace(CONFIG, max_positions=16)
    model, params = architecture(config), params_of(config)
    model.apply(params, TOKENS)
    with pytest.raises(ValueError, match=r"a batch is 17 tokens long.* max_positions = 16"):
        model.apply(params, np.pad(TOKENS, ((0, 0), (0, 1))))
    _, caches = model.prefill(params, TOKENS[:, :8], np.zeros(3, np.int32), 17)
    with pytest.raises(ValueError, match="a batch is 17 tokens long"):
        model.decode(params, TOKENS[:, 0], jnp.int32(8), np.zeros(3, np.int32), caches)


def test_no_sum_relies_on_rank_promotion():
    config = replace(CONFIG, **EVERYTHING)
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(architecture(config).apply, params_of(config), TOKENS)


def _only_known(params, known):
    """The params without those that the other architecture has not."""
    if not isinstance(known, dict):
        return params
    return {name: _only_known(params[name], value) for name, value in known.items()}
