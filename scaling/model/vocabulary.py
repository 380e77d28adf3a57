"""Log-probabilities of tokens under a large vocabulary, without all logits at once.

In: the last hidden states and the output projection. Out: log-probabilities, computed in tiles of the vocabulary in
both passes: a tile's part of the projection is gathered, its logits live no longer than the tile, and its gradient is
scattered before the next one's is made. The FLOPs of the projection are spent once more, in the backward pass.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from scaling.model.sharding import constrained_rows, constrained_shards, is_divided, vocabulary_shards
from scaling.model.sizes import SMALL_VOCABULARY, TILE, ModelConfig

# Of filler: its index, and its logits; not -inf, which has no gradient if a tile holds nothing else.
_NO_WORD, _NEVER = -1, -1e30


def in_tiles(config: ModelConfig) -> bool:
    """Whether losses get `Unprojected`: a checkpoint's vocabulary, in bfloat16 or on several devices.

    Other programs stay as they were, because memory does not limit them.
    """
    return config.vocab_size > SMALL_VOCABULARY and (config.bfloat16 or is_divided())


@partial(jax.tree_util.register_dataclass, data_fields=["hidden", "projection"], meta_fields=["dtype", "precision"])
@dataclass(frozen=True)
class Unprojected:
    """Logits that are not computed yet; they are as soon as jax needs an array."""

    hidden: jax.Array  # [B, T, D]
    projection: jax.Array  # float32 [D, V]
    dtype: str  # what the product reads
    precision: str | None = None  # as `ModelConfig.precision`

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.hidden.shape[:-1], self.projection.shape[-1])

    def astype(self, dtype: jax.typing.DTypeLike) -> jax.Array:
        """All logits [B, T, V]."""
        return self.__jax_array__().astype(dtype)

    def __jax_array__(self) -> jax.Array:
        product = partial(jnp.matmul, precision=self.precision, preferred_element_type=jnp.float32)
        logits = product(self.hidden.astype(self.dtype), self.projection.astype(self.dtype))
        return constrained_rows(logits, last="vocab")

    def token_logps(self, tokens: jax.Array) -> jax.Array:
        """Log-probability float32 [B, T - 1] of the tokens int32 [B, T] after the first, each given those before."""
        width, vocabulary = self.projection.shape
        shards = vocabulary_shards(vocabulary)
        tiles, filler = _tiles(vocabulary // shards)
        # Each tile takes its words from every shard of the vocabulary, so that none is moved.
        parts = self.projection.reshape(width, shards, -1)
        words = jnp.arange(vocabulary, dtype=jnp.int32).reshape(shards, -1)
        if filler:
            parts = jnp.pad(parts, ((0, 0), (0, 0), (0, filler)))
            words = jnp.pad(words, ((0, 0), (0, filler)), constant_values=_NO_WORD)
        projections = jnp.moveaxis(parts.reshape(width, shards, tiles, -1), 2, 0)
        words = words.reshape(shards, tiles, -1).swapaxes(0, 1)
        hidden, targets = self.hidden[:, :-1].astype(jnp.float32), tokens[:, 1:, None, None]

        @jax.checkpoint
        def of_tile(tile: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            """Log of the sum of the exponentials of a tile's logits, and the target's logit if it is one of them."""
            projection, word = tile
            # Cast in here: the gradients of all tiles are summed in float32.
            projection = constrained_shards(projection.astype(self.dtype))
            product = partial(jnp.einsum, precision=self.precision, preferred_element_type=jnp.float32)
            logits = product("btd,dsv->btsv", hidden.astype(self.dtype), projection)
            logits = constrained_shards(logits)
            if filler:
                logits = jnp.where(word[None, None] == _NO_WORD, _NEVER, logits)
            target = jnp.sum(jnp.where(word[None, None] == targets, logits, 0.0), axis=(-2, -1))
            return jax.nn.logsumexp(logits, axis=(-2, -1)), target

        sums, found = jax.lax.map(of_tile, (projections, words))
        return jnp.sum(found, axis=0) - jax.nn.logsumexp(sums, axis=0)


def _tiles(words: int) -> tuple[int, int]:
    """The number of tiles of a shard, and the filler words that make them equal: 0 if twice the tiles avoid them."""
    least = -(-words // TILE)
    if exact := next((count for count in range(least, 2 * least + 1) if words % count == 0), None):
        return exact, 0
    return least, -words % least
