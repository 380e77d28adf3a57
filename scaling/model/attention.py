"""Attention over whole sequences, by the implementation that a decoder's config names.

In: queries, keys and values of every token, and which tokens see which. Out: what every token mixes from the values.
`einsum` is the project's own: two products, in which the queries of a group are rows of one matrix. `xla` and `cudnn`
are those of `jax.nn.dot_product_attention`; cuDNN's holds no logits in memory. All give the same numbers but for
rounding (tests/test_attention.py). A token that is sampled attends to its cache by the transformer's own code, whatever
is named here.
"""

import jax
import jax.numpy as jnp

from scaling.model.sharding import with_own_heads
from scaling.model.sizes import CUDNN, EINSUM, ModelConfig

MASKED = -1e30  # added to a masked attention logit: exp underflows to exactly zero, and a fully masked row gives no NaN
# The same for cuDNN, as in jax's own: there the difference of two much larger numbers was wrong.
CUDNN_MASKED = -(2.0**41)
# Of a head, in cuDNN: jax refuses more than 128 on GPUs before Hopper by itself.
MOST_HEAD_WIDTH, HEAD_WIDTH_STEP = 256, 8


def knows_causality(config: ModelConfig) -> bool:
    """Whether rows that hold one sequence, from their first slot on, need no mask."""
    return config.attention != EINSUM


def mask_of(visible: jax.Array, config: ModelConfig) -> jax.Array:
    """What is added to logits, [B or 1, 1, T, T], where a query may look at the keys of bool [B or 1, T, T] only."""
    if config.attention == CUDNN:
        return jnp.where(visible, 0.0, CUDNN_MASKED)[:, None].astype(config.compute_dtype)
    return jnp.where(visible, 0.0, MASKED)[:, None]


def attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None, config: ModelConfig
) -> jax.Array:
    """What each token mixes from the values, [B, T, H*E].

    queries [B, H, T, E], scaled; keys, values [B, H_kv, T, E]; mask: as `mask_of` makes it, or None for causality and
    the window alone, if the implementation `knows_causality`.
    """
    if config.attention == EINSUM:
        assert mask is not None
        return _by_einsum(queries, keys, values, mask, config)
    if config.attention == CUDNN:
        require_cudnn(config)
    return _by_jax(queries, keys, values, mask, config)


def require_cudnn(config: ModelConfig) -> None:
    """Raise ValueError for a decoder, and RuntimeError for a machine, that cuDNN's attention is not for."""
    said, cure = "memory.attention is 'cudnn'", "memory.attention: xla"
    if not config.bfloat16:
        raise ValueError(
            f"{said}, but the policy computes in {config.compute_dtype}; cuDNN's attention reads bfloat16: set"
            f" policy.compute_dtype: bfloat16, or {cure}."
        )
    if config.head_width % HEAD_WIDTH_STEP or config.head_width > MOST_HEAD_WIDTH:
        raise ValueError(
            f"{said}, but a head of the policy is {config.head_width} wide; cuDNN's attention needs a multiple of"
            f" {HEAD_WIDTH_STEP} up to {MOST_HEAD_WIDTH} (128 before Hopper): set {cure}."
        )
    if (backend := jax.default_backend()) != "gpu":
        raise RuntimeError(
            f"{said}, but jax computes on a {backend} here; cuDNN needs an NVIDIA GPU: run the stage on one"
            f" (resources.train and resources.rollouts: {{gpu: 1}}), or set {cure}."
        )


def _by_einsum(
    queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, config: ModelConfig
) -> jax.Array:
    groups = config.num_heads // config.num_kv_heads
    batch, heads, length, head_width = queries.shape
    # The queries of a group share their keys: as extra rows they stay one plain batched matmul.
    rows = queries.reshape(batch, heads // groups, groups * length, head_width)
    logits = jnp.einsum("bhrd,bhsd->bhrs", rows, keys, precision=config.precision, preferred_element_type=jnp.float32)
    logits = logits.reshape(batch, heads, length, length)
    weights = jax.nn.softmax(logits + jnp.broadcast_to(mask, logits.shape), axis=-1)
    weights = weights.reshape(batch, heads // groups, groups * length, length).astype(values.dtype)
    mixed = jnp.einsum("bhrs,bhsd->bhrd", weights, values).reshape(batch, heads, length, head_width)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1)


def _by_jax(
    queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None, config: ModelConfig
) -> jax.Array:
    window = config.sliding_window
    # A mask holds the window already: cuDNN before 9.10.2 takes no window beside it.
    narrow = None if mask is not None or window is None or window >= queries.shape[2] else (window - 1, 0)

    def of_heads(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None) -> jax.Array:
        return jax.nn.dot_product_attention(
            queries,
            keys,
            values,
            bias=mask,
            scale=1.0,
            is_causal=True,
            local_window_size=narrow,
            implementation="cudnn" if config.attention == CUDNN else "xla",
        )

    queries, keys, values = (heads.transpose(0, 2, 1, 3) for heads in (queries, keys, values))  # [B, T, H, E]
    mixed = with_own_heads(of_heads, queries, keys, values, mask)
    return mixed.reshape(*mixed.shape[:2], -1)
