"""Rotary positions (Su et al. 2021, arXiv 2104.09864), with the two scalings for longer contexts that checkpoints use.

In: positions and a `ModelConfig`. Out: cosines and sines, and heads that they rotate.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from scaling.model.sizes import ModelConfig, RopeScaling


def frequencies(config: ModelConfig) -> np.ndarray:
    """Radians per position, float32 [E/2]."""
    half = config.head_width // 2
    plain: np.ndarray = config.rope_theta ** (-np.arange(half, dtype=np.float32) / half)
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    return _llama3(plain, scaling)


def rotation(positions: jax.Array, length: int, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines float32 [B, 1, T, E/2] of int32 positions [B, T] below `length`.

    Looked up in a table of constants: otherwise XLA would compute the cosines again in every layer and for every head.
    """
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies(config)
    table = jnp.asarray(np.concatenate([np.cos(angles), np.sin(angles)], axis=-1))  # [length, E]
    cosines, sines = jnp.split(table[positions][:, None], 2, axis=-1)
    return cosines, sines


def rotate(heads: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotary embedding of [B, H, T, E]: the first and second halves of E are the pairs (as in Llama)."""
    cosines, sines = rotation
    first, second = jnp.split(heads, 2, axis=-1)
    cosines, sines = jnp.broadcast_to(cosines, first.shape), jnp.broadcast_to(sines, first.shape)
    return jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _llama3(plain: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Slow frequencies are divided by the factor, fast ones kept, those between interpolated.

    A frequency is slow when it turns less than `low_frequency_factor` times in the original context, fast when more
    than `high_frequency_factor` times (Llama 3.1; the rule is in the model's code, in no paper).
    """
    low, high, positions = scaling.low_frequency_factor, scaling.high_frequency_factor, scaling.original_max_positions
    assert low is not None and high is not None and positions is not None  # RopeScaling demands all three
    turns = positions * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 0 is slow, 1 is fast
    scaled: np.ndarray = (1 - kept) * plain / scaling.factor + kept * plain
    return scaled
