"""A Llama-shaped decoder in Flax NNX (RMSNorm, rotary, SwiGLU, grouped-query attention; see `ModelConfig`).

Axis letters, used everywhere: B sequences, T tokens, V vocabulary, D width, H heads, L layers, S cache slots
(in data/ and algorithms/ S is steps), M rollouts per prefix, N problems, R seeds; here also E head width.

The module defines the architecture. `architecture(config)` splits it at once, and from there a policy is a plain
nested dict of float32 arrays, `params`, given to pure functions. Layouts are chosen for XLA's fast batched
matrix products on CPU: queries and keys [B, H, T, E], cached keys transposed [B, H, E, S], layers unrolled.

With `config.bfloat16`, matrix products read and write bfloat16 (of params cast where they are used, so that gradients
arrive in float32), and so do the residual stream and the cache. Norms, rotation, softmax and logits are float32.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.config.policy import Lora
from scaling.model.attention import MASKED, attend, knows_causality, mask_of
from scaling.model.lora import add_adapters
from scaling.model.sharding import constrained_rows, constrained_stack, looked_up
from scaling.model.sizes import SCANNED, SMALL_VOCABULARY, ModelConfig, RopeScaling
from scaling.model.vocabulary import Unprojected, in_tiles

Params = Mapping[str, Any]  # nested
Rotation = tuple[jax.Array, jax.Array]  # cosines and sines


class LayerCache(NamedTuple):
    """Keys and values of one layer, in slots; slot s of every row is written in the same update."""

    keys: jax.Array  # [B, H_kv, E, S] in the compute dtype
    values: jax.Array  # [B, H_kv, S, E]

    def widened(self, num_slots: int) -> "LayerCache":
        """The cache with empty slots appended."""
        room, nothing = (0, num_slots), (0, 0)
        keys = jnp.pad(self.keys, (nothing, nothing, nothing, room))
        return LayerCache(keys, jnp.pad(self.values, (nothing, nothing, room, nothing)))


class Linear(nnx.Module):
    """A matrix product, on flattened rows.

    Flattened because XLA's CPU code for the kernel's gradient is 1.6 times slower on [B, T, D] than on [B*T, D].
    """

    def __init__(self, fan_in: int, fan_out: int, dtype: str, rngs: nnx.Rngs, bias: bool = False) -> None:
        self.kernel = nnx.Param(nnx.initializers.normal(fan_in**-0.5)(rngs.params(), (fan_in, fan_out)))
        self.bias = nnx.Param(jnp.zeros(fan_out)) if bias else None
        self.adapter = nnx.data(None)  # what scaling.model.lora adds
        self.dtype = dtype

    def __call__(self, hidden: jax.Array) -> jax.Array:
        rows = hidden.reshape(-1, hidden.shape[-1]).astype(self.dtype)
        mixed = rows @ self.kernel[...].astype(self.dtype)
        if self.bias is not None:
            mixed = mixed + self.bias[...].astype(self.dtype)[None]
        if self.adapter is not None:
            mixed = mixed + self.adapter(rows)
        return mixed.reshape(*hidden.shape[:-1], -1)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        query_width = config.num_heads * config.head_width
        kv_width = config.num_kv_heads * config.head_width
        dtype = config.compute_dtype
        self.query = Linear(config.width, query_width, dtype, rngs, config.qkv_bias)
        self.key = Linear(config.width, kv_width, dtype, rngs, config.qkv_bias)
        self.value = Linear(config.width, kv_width, dtype, rngs, config.qkv_bias)
        self.output = Linear(query_width, config.width, dtype, rngs, config.output_bias)
        if config.qk_norm:
            self.query_norm = nnx.RMSNorm(config.head_width, epsilon=config.norm_epsilon, rngs=rngs)
            self.key_norm = nnx.RMSNorm(config.head_width, epsilon=config.norm_epsilon, rngs=rngs)

    def full(
        self, hidden: jax.Array, rotation: Rotation, mask: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Every token attends to the tokens before it that `mask` allows (see `attend`); returns keys and values."""
        queries, keys, values = self._project(hidden, rotation)  # [B, H, T, E]
        return self.output(attend(queries, keys, values, mask, self.config)), keys, values

    def decode(
        self, hidden: jax.Array, rotation: Rotation, slot: jax.Array, mask: jax.Array, layer_cache: LayerCache
    ) -> tuple[jax.Array, LayerCache]:
        """One new token per row, [B, 1, D], written to `slot`; mask float32 [B, 1, S]."""
        queries, keys, values = self._project(hidden, rotation)  # [B, H, 1, E]
        cache_keys = jax.lax.dynamic_update_slice_in_dim(layer_cache.keys, keys.transpose(0, 1, 3, 2), slot, axis=3)
        cache_values = jax.lax.dynamic_update_slice_in_dim(layer_cache.values, values, slot, axis=2)
        kv_heads = self.config.num_kv_heads
        rows = queries.reshape(queries.shape[0], kv_heads, -1, self.config.head_width)
        logits = jnp.einsum("bhrd,bhds->bhrs", rows, cache_keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits + jnp.broadcast_to(mask[:, None], logits.shape), axis=-1)
        mixed = jnp.einsum("bhrs,bhsd->bhrd", weights.astype(cache_values.dtype), cache_values)
        return self.output(mixed.reshape(hidden.shape[0], 1, -1)), LayerCache(cache_keys, cache_values)

    def _project(self, hidden: jax.Array, rotation: Rotation) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch, length, _ = hidden.shape

        def heads(projected: jax.Array) -> jax.Array:
            return projected.reshape(batch, length, -1, self.config.head_width).transpose(0, 2, 1, 3)

        queries, keys = heads(self.query(hidden)), heads(self.key(hidden))
        if self.config.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        scale, dtype = self.config.head_width**-0.5, self.config.compute_dtype
        queries, keys = rotate(queries, rotation) * scale, rotate(keys, rotation)
        return queries.astype(dtype), keys.astype(dtype), heads(self.value(hidden))


class FeedForward(nnx.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.gate = Linear(config.width, config.ffn_width, config.compute_dtype, rngs)
        self.up = Linear(config.width, config.ffn_width, config.compute_dtype, rngs)
        self.down = Linear(config.ffn_width, config.width, config.compute_dtype, rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(hidden)) * self.up(hidden))


class Layer(nnx.Module):
    """Pre-norm block."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.attention_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.attention = Attention(config, rngs)
        self.ffn_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.ffn = FeedForward(config, rngs)

    def full(
        self, hidden: jax.Array, rotation: Rotation, mask: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The next hidden states, and the attention's keys and values."""
        mixed, keys, values = self.attention.full(self.attention_norm(hidden), rotation, mask)
        hidden = constrained_rows(hidden + mixed)
        return constrained_rows(hidden + self.ffn(self.ffn_norm(hidden))), keys, values


class Transformer(nnx.Module):
    """The decoder. Rows may be padded on the left; `starts` int32 [B] counts the padding, None says that there is none.

    Without a cache a row may hold several sequences: `starts` int32 [B, T] has the slot at which each token's begins.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = nnx.Embed(
            config.vocab_size, config.width, embedding_init=nnx.initializers.normal(config.width**-0.5), rngs=rngs
        )
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_layers)])
        self.final_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        if config.untied_head:
            self.head = Linear(config.width, config.vocab_size, config.compute_dtype, rngs)

    def full(
        self, tokens: jax.Array, starts: jax.Array | None, remat: bool = False
    ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
        """Hidden states float32 [B, T, D] of int32 tokens [B, T], and every layer's keys and values [B, H, T, E].

        remat: a gradient keeps each layer's input only, and computes the layer again.
        """
        hidden, turned, mask = self.begun(tokens, starts)
        kept = []
        for layer in self.layers:
            through = jax.checkpoint(layer.full) if remat else layer.full
            hidden, keys, values = through(hidden, turned, mask)
            kept.append((keys, values))
        return self.final_norm(hidden), kept

    def begun(self, tokens: jax.Array, starts: jax.Array | None) -> tuple[jax.Array, Rotation, jax.Array | None]:
        """The input of the layers: hidden states [B, T, D], rotation and mask of `Attention.full`."""
        unmasked = starts is None and knows_causality(self.config)
        starts = jnp.zeros(tokens.shape[0], jnp.int32) if starts is None else starts
        length, shared = tokens.shape[1], starts.ndim == 2
        if not shared:  # there positions begin anew in each sequence, whose length is checked where rows are packed
            self.config.check_room(length)
        slots = jnp.arange(length)
        positions = slots[None, :] - (starts if shared else starts[:, None])
        turned = rotation(jnp.maximum(positions, 0), length, self.config)
        if unmasked:
            return self._embedded(tokens), turned, None
        in_reach = self._in_reach(slots[:, None] - slots[None, :])  # [T, T]
        # [B, T, T]
        visible = in_reach[None] & (slots[None, None, :] >= (starts[:, :, None] if shared else starts[:, None, None]))
        return self._embedded(tokens), turned, mask_of(visible, self.config)

    def decode(
        self, token: jax.Array, slot: jax.Array, starts: jax.Array, caches: list[LayerCache]
    ) -> tuple[jax.Array, list[LayerCache]]:
        """Logits float32 [B, V] after one more token int32 [B] in `slot`, and the caches that hold it."""
        num_slots = caches[0].values.shape[2]
        self.config.check_room(num_slots)
        turned = rotation((slot - starts)[:, None], num_slots, self.config)
        slots = jnp.arange(num_slots)[None, :]
        visible = self._in_reach(slot - slots) & (slots >= starts[:, None])
        mask = jnp.where(visible, 0.0, MASKED)[:, None]  # [B, 1, S]
        hidden, updated = self._embedded(token[:, None]), []
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            mixed, layer_cache = layer.attention.decode(layer.attention_norm(hidden), turned, slot, mask, layer_cache)
            hidden = constrained_rows(hidden + mixed)
            hidden = constrained_rows(hidden + layer.ffn(layer.ffn_norm(hidden)))
            updated.append(layer_cache)
        return self.logits(self.final_norm(hidden))[:, 0], updated

    def logits(self, hidden: jax.Array) -> jax.Array:
        """float32 logits over the vocabulary; the output projection is the embedding, unless there is a head."""
        dtype = self.config.compute_dtype
        rows = hidden.reshape(-1, hidden.shape[-1]).astype(dtype)
        rows = jnp.matmul(
            rows, self.projection.astype(dtype), precision=self.config.precision, preferred_element_type=jnp.float32
        )
        return constrained_rows(rows.reshape(*hidden.shape[:-1], -1), last="vocab")

    @property
    def projection(self) -> jax.Array:
        """float32 [D, V]"""
        return self.head.kernel[...] if self.config.untied_head else self.embedding.embedding[...].T

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        return looked_up(self.embedding.embedding[...], tokens, self.config.compute_dtype)

    def _in_reach(self, distance: jax.Array) -> jax.Array:
        """Which keys a query may look at, by how many slots they are behind it."""
        window = self.config.sliding_window
        return distance >= 0 if window is None else (distance >= 0) & (distance < window)


class Architecture(NamedTuple):
    """Pure functions of a policy's params."""

    init: Callable[[jax.Array], Params]  # key -> params
    apply: Callable[..., jax.Array]  # (params, tokens [B, T], remat) -> logits [B, T, V]; padding on the right
    # The same, or what its logits would be computed from; where rows are packed, starts int32 [B, T] after remat.
    predict: Callable[..., jax.Array | Unprojected]
    prefill: Callable[..., tuple[jax.Array, list[LayerCache]]]
    decode: Callable[..., tuple[jax.Array, list[LayerCache]]]
    cast: Callable[[Params], Params]  # params as they are read; for loops, which would cast them every time


@cache
def architecture(config: ModelConfig, lora: Lora | None = None) -> Architecture:
    """The pure functions of one shape; equal configs give the same objects, so that jit compiles once.

    lora: the params hold adapters as well, beside the kernels that they add to.
    """

    def fresh(rngs: nnx.Rngs) -> Transformer:
        decoder = Transformer(config, rngs)
        if lora is not None:
            add_adapters(decoder, lora)
        return decoder

    abstract = nnx.eval_shape(lambda: fresh(nnx.Rngs(0)))
    graphdef, layerdef = nnx.graphdef(abstract), nnx.graphdef(abstract.layers[0])

    def module(params: Params) -> Transformer:
        merged: Transformer = nnx.merge(graphdef, dict(params))
        return merged

    def init(key: jax.Array) -> Params:
        pure: Params = nnx.to_pure_dict(nnx.state(fresh(nnx.Rngs(params=key))))
        return pure

    def layer(params: Params) -> Layer:
        merged: Layer = nnx.merge(layerdef, dict(params))
        return merged

    def through_layers(
        decoder: Transformer, params: Params, tokens: jax.Array, remat: bool, starts: jax.Array | None = None
    ) -> jax.Array:
        """What `Transformer.full` gives for tokens that are padded on the right; with SCANNED layers or more, one is
        compiled for many."""
        if config.num_layers < SCANNED or config.vocab_size <= SMALL_VOCABULARY:
            return decoder.full(tokens, starts, remat)[0]
        hidden, turned, mask = decoder.begun(tokens, starts)

        def body(hidden: jax.Array, of_layer: Params) -> tuple[jax.Array, None]:
            return layer(of_layer).full(hidden, turned, mask)[0], None

        through = jax.checkpoint(body, prevent_cse=False) if remat else body
        layers = [params["layers"][index] for index in range(config.num_layers)]
        # In several scans: the gradients of one are added to the update's before those of the next are made.
        for start in range(0, len(layers), SCANNED):
            stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(cast, layers[start : start + SCANNED]))
            hidden, _ = jax.lax.scan(through, hidden, constrained_stack(stack, config))
        normed: jax.Array = decoder.final_norm(hidden)
        return normed

    def apply(params: Params, tokens: jax.Array, remat: bool = False) -> jax.Array:
        decoder = module(params)
        return decoder.logits(through_layers(decoder, params, tokens, remat))

    def predict(
        params: Params, tokens: jax.Array, remat: bool = False, starts: jax.Array | None = None
    ) -> jax.Array | Unprojected:
        decoder = module(params)
        hidden = through_layers(decoder, params, tokens, remat, starts)
        if not in_tiles(config):
            return decoder.logits(hidden)
        return Unprojected(hidden, decoder.projection, config.compute_dtype, config.precision)

    def prefill(
        params: Params, tokens: jax.Array, starts: jax.Array, num_slots: int
    ) -> tuple[jax.Array, list[LayerCache]]:
        """Logits [B, V] after the last token of left-padded prompts [B, P], and caches of num_slots slots."""
        decoder = module(params)
        hidden, kept = decoder.full(tokens, starts)
        room = num_slots - tokens.shape[1]
        caches = [LayerCache(keys.transpose(0, 1, 3, 2), values).widened(room) for keys, values in kept]
        return decoder.logits(hidden[:, -1:])[:, 0], caches

    def decode(
        params: Params, token: jax.Array, slot: jax.Array, starts: jax.Array, caches: list[LayerCache]
    ) -> tuple[jax.Array, list[LayerCache]]:
        return module(params).decode(token, slot, starts, caches)

    def cast(params: Params) -> Params:
        def read(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            return leaf if path[-1].key == "scale" else leaf.astype(config.compute_dtype)

        as_read: Params = jax.tree_util.tree_map_with_path(read, params)
        return as_read

    return Architecture(init, apply, predict, prefill, decode, cast)


# Rotary positions (Su et al. 2021, arXiv 2104.09864), with the two scalings for longer contexts that checkpoints use.


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
