"""The ladder: its names are one dial, each rung is larger than the last, and it counts its params exactly."""

import math
from dataclasses import fields, replace
from itertools import pairwise

import jax
import pytest
from tiny_policy import CONFIG, TINY

from scaling.model.sizes import SIZES, ModelConfig, RopeScaling, model_config
from scaling.model.transformer import architecture

VOCAB_SIZE = 50
LADDER = [model_config(size, VOCAB_SIZE) for size in SIZES]


def num_stored_params(config: ModelConfig) -> int:
    abstract = jax.eval_shape(architecture(config).init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))


FEATURES = [{"untied_head": True}, {"qkv_bias": True}, {"output_bias": True}, {"qk_norm": True}]
VARIANTS = [replace(CONFIG, **feature) for feature in FEATURES]


@pytest.mark.parametrize("config", [CONFIG, LADDER[0], LADDER[3], *VARIANTS])
def test_num_params_counts_what_init_makes(config):
    assert num_stored_params(config) == config.num_params


def test_each_rung_has_more_of_everything_and_several_times_the_params():
    for smaller, larger in pairwise(LADDER):
        assert larger.width == 2 * smaller.width
        assert larger.num_layers > smaller.num_layers
        assert larger.ffn_width > smaller.ffn_width
        assert 4 < (larger.num_params - 50 * larger.width) / (smaller.num_params - 50 * smaller.width) < 8


def test_the_size_is_one_dial():
    """Nothing but the name sets the shape: what is not the vocabulary is the same at any vocabulary."""
    for size, config in zip(SIZES, LADDER, strict=True):
        assert replace(config, vocab_size=77) == model_config(size, 77)
        assert config.vocab_size == VOCAB_SIZE
    assert len(set(LADDER)) == len(SIZES)


def test_every_rung_is_a_well_formed_decoder():
    for config in LADDER:
        assert config.num_heads * config.head_width == config.width
        assert config.num_heads % config.num_kv_heads == 0
        assert config.ffn_width % 16 == 0
        assert 8 / 3 * config.width <= config.ffn_width < 8 / 3 * config.width + 16


def test_equal_shapes_share_their_functions():
    assert architecture(ModelConfig(**{field.name: getattr(CONFIG, field.name) for field in fields(CONFIG)})) is TINY


def test_heads_that_cannot_be_grouped_are_refused():
    with pytest.raises(ValueError, match="num_heads is 4 and num_kv_heads 3; the second must divide the first"):
        replace(CONFIG, num_kv_heads=3)


def test_an_odd_head_width_is_refused():
    with pytest.raises(ValueError, match="head_width is 5; rotary positions need an even number"):
        replace(CONFIG, head_width=5)


def test_a_rope_scaling_that_is_unknown_or_half_told_is_refused():
    with pytest.raises(ValueError, match="rope scaling is 'yarn'; the decoder knows linear, llama3"):
        RopeScaling("yarn", 4.0)
    with pytest.raises(ValueError, match=r"= \(1.0, None, 8192\); it needs all three"):
        RopeScaling("llama3", 8.0, low_frequency_factor=1.0, original_max_positions=8192)
