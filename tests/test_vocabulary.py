"""Log-probabilities in tiles of the vocabulary, and scanned layers: the values and gradients of the plain programs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.policy import Lora
from scaling.model import transformer, vocabulary
from scaling.model.lora import init_adapters, joined
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.model.vocabulary import Unprojected
from scaling.training.logps import token_logps

SMALL = ModelConfig(
    vocab_size=4160, width=16, num_layers=10, num_heads=2, num_kv_heads=1, head_width=8, ffn_width=24, untied_head=True
)
TOKENS = np.random.default_rng(0).integers(0, SMALL.vocab_size, (2, 6)).astype(np.int32)
TOLERANCE = 1e-4  # of float32 sums in another order, relative to the largest number of an array


def params_of(config: ModelConfig):
    return architecture(config).init(jax.random.key(1))


def summed(predict, params):
    """A scalar in which every token's log-probability has a weight of its own."""
    weights = np.linspace(0.5, 1.5, TOKENS.size, dtype=np.float32).reshape(TOKENS.shape)
    return jnp.sum(token_logps(predict(params, TOKENS), TOKENS) * weights)


def assert_same(found, expected):
    def same(one, other):
        np.testing.assert_allclose(one, other, atol=TOLERANCE * max(1.0, float(np.abs(other).max())), rtol=0)

    jax.tree.map(same, found, expected)


@pytest.mark.parametrize(("words", "tile"), [(4160, 4160), (4160, 1040), (4160, 500), (4159, 500)])  # the last: filler
def test_tiles_give_the_log_probabilities_and_gradients_of_whole_logits(monkeypatch, words, tile):
    monkeypatch.setattr(vocabulary, "TILE", tile)
    keys = jax.random.split(jax.random.key(0), 2)
    hidden, projection = jax.random.normal(keys[0], (2, 6, 16)), jax.random.normal(keys[1], (16, words)) / 4

    def plain(hidden, projection):
        return jnp.sum(token_logps(hidden @ projection, TOKENS) ** 2)

    def tiled(hidden, projection):
        return jnp.sum(token_logps(Unprojected(hidden, projection, "float32"), TOKENS) ** 2)

    found, expected = (jax.value_and_grad(loss, (0, 1))(hidden, projection) for loss in (tiled, plain))
    assert_same(found, expected)


@pytest.mark.parametrize("words", [1, 16_384, 32_003, 50_257, 122_753, 128_257, 151_936, 262_144])
def test_every_vocabulary_has_few_tiles(words):
    tiles, filler = vocabulary._tiles(words)
    assert (words + filler) % tiles == 0 and (words + filler) // tiles <= vocabulary.TILE
    assert tiles <= 2 * -(-words // vocabulary.TILE) and filler < tiles


def test_what_is_not_projected_is_logits_to_everything_that_wants_an_array():
    hidden, projection = np.ones((1, 2, 4), np.float32), np.ones((4, 8), np.float32)
    logits = Unprojected(jnp.asarray(hidden), jnp.asarray(projection), "float32")
    assert logits.shape == (1, 2, 8)
    assert np.asarray(logits.astype(jnp.float32)).tolist() == jnp.exp(jnp.log(jnp.asarray(logits))).tolist()


def test_a_vocabulary_is_tiled_in_bfloat16_and_layers_are_scanned_for_a_checkpoints_vocabulary_only():
    params = jax.eval_shape(lambda: params_of(SMALL))

    def program(config) -> str:
        return str(jax.make_jaxpr(lambda params: summed(architecture(config).predict, params))(params))

    assert " scan[" in program(SMALL) and "bf16" not in program(SMALL)
    ladder, shallow = replace(SMALL, vocab_size=4096), replace(SMALL, num_layers=7)
    for config in (ladder, shallow):
        params = jax.eval_shape(lambda config=config: params_of(config))
        assert "scan[" not in program(config)
        assert isinstance(jax.eval_shape(architecture(config).predict, params, TOKENS), jax.ShapeDtypeStruct)
    params = jax.eval_shape(lambda: params_of(shallow))
    half = replace(shallow, bfloat16=True)
    assert isinstance(jax.eval_shape(architecture(half).predict, params, TOKENS), Unprojected)


@pytest.mark.parametrize("remat", [False, True])
def test_scanned_layers_give_the_gradients_of_unrolled_ones(monkeypatch, remat):
    params = params_of(SMALL)

    predict = architecture(SMALL).predict

    def found():
        return jax.jit(jax.value_and_grad(lambda params: summed(lambda *of: predict(*of, remat), params)))(params)

    scanned = found()
    monkeypatch.setattr(transformer, "SCANNED", 99)
    assert_same(scanned, found())


def test_adapters_are_scanned_with_their_layers(monkeypatch):
    lora = Lora(rank=2, targets=("query", "down"))
    params = params_of(SMALL)
    adapters = init_adapters(params, lora, jax.random.key(2))
    adapters = jax.tree.map(lambda leaf: leaf + 0.1, adapters)

    predict = architecture(SMALL, lora).predict

    def gradient():
        return jax.jit(jax.grad(lambda adapters: summed(predict, joined(params, adapters))))(adapters)

    scanned = gradient()
    monkeypatch.setattr(transformer, "SCANNED", 99)
    assert_same(scanned, gradient())
