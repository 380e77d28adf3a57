"""Log-probabilities of completions: shifted, masked and summed in one place.

Everything is computed in float32, regardless of the dtype of the params. Losses see one sequence a row. Where several
share a row in the decoder (scaling.model.packing), their tokens' log-probabilities are taken apart here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.model.memory_need import SCORING_ROWS
from scaling.model.policy import Policy
from scaling.model.sharding import placed_rows, whole
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params, architecture
from scaling.model.vocabulary import Unprojected
from scaling.training.batching import Sequences, cutter, micro_batches


@partial(jax.tree_util.register_dataclass, data_fields=["logits", "tokens", "starts"], meta_fields=["length"])
@dataclass(frozen=True)
class Packed:
    """Logits of sequences that share rows, for `token_logps`."""

    logits: jax.Array | Unprojected  # [R, W, V]
    tokens: jax.Array  # int32 [R, W]
    starts: jax.Array  # int32 [B], where each sequence begins, counted over the slots of all rows
    length: int  # T, tokens of a sequence with the filler behind it

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the logits of sequences that are apart."""
        return (len(self.starts), self.length, self.logits.shape[-1])

    def token_logps(self) -> jax.Array:
        """Log-probability float32 [B, T] of each token, and of no meaning behind the sequence; position 0 is 0."""
        index = jnp.arange(self.length)[None]
        apart = jnp.take(token_logps(self.logits, self.tokens).reshape(-1), self.starts[:, None] + index, mode="clip")
        return jnp.where(index == 0, 0.0, apart)


def packed_apply(apply: Callable[..., Any], packed: Mapping[str, jax.Array] | None) -> Callable[..., Any]:
    """An apply for the loss of a micro-batch: the same, or, where sequences share rows, one whose result is `Packed`.

    The loss gives it all sequences of the micro-batch at once, in their order. packed: as `packed_batches` makes it.
    """
    if packed is None:
        return apply
    starts = packed["starts"]

    def of_rows(params: Params, tokens: jax.Array) -> Packed:
        if len(tokens) != len(starts):
            raise ValueError(
                f"a loss gives apply {len(tokens)} sequences, but {len(starts)} of its micro-batch share rows; give it"
                " all of them at once, or do not set `packs`."
            )
        return Packed(
            apply(params, packed["tokens"], starts=packed["begins"]), packed["tokens"], starts, tokens.shape[1]
        )

    return of_rows


def token_logps(logits: jax.Array | Unprojected | Packed, tokens: jax.Array) -> jax.Array:
    """Log-probability of each token given those before it.

    logits: float [B, T, V] of the same sequences, computed or not; tokens: int32 [B, T].
    Returns: float32 [B, T]; position 0, which nothing predicts, is 0.
    """
    if logits.shape[:2] != tokens.shape:
        raise ValueError(f"logits are {logits.shape}, tokens {tokens.shape}; the first two axes must agree.")
    if isinstance(logits, Packed):
        return logits.token_logps()
    if isinstance(logits, Unprojected):
        return jnp.pad(logits.token_logps(tokens), ((0, 0), (1, 0)))
    log_probs = jax.nn.log_softmax(logits[:, :-1].astype(jnp.float32), axis=-1)
    picked = jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.pad(picked, ((0, 0), (1, 0)))


def completion_logps(logits: jax.Array | Unprojected | Packed, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Summed log-probability float32 [B] of the tokens where mask float32 [B, T] is 1."""
    return jnp.sum(token_logps(logits, tokens) * mask, axis=-1)


def reference_logps(policy: Policy, rows: Sequences) -> np.ndarray:
    """Log-probability float32 [N] of every row's completion under a frozen policy, such as the reference."""
    forward, arrays = make_forward(policy.config), {"tokens": rows.tokens, "mask": rows.mask}
    logps, everything = np.zeros(len(rows.lengths), np.float32), np.arange(len(rows.lengths))
    cut = cutter(arrays, [everything], rows.lengths, SCORING_ROWS, policy.config)
    for members, batch in cut(everything):
        batch = placed_rows(batch)
        found = whole(forward(policy.params, batch["tokens"], batch["mask"], batch.get("packed")))
        logps[members] = found[: len(members)]
    return logps


@cache
def make_forward(config: ModelConfig) -> Callable[..., jax.Array]:
    """The compiled log-probabilities of one shape."""
    predict = architecture(config).predict

    @jax.jit
    def forward(
        params: Params, tokens: jax.Array, mask: jax.Array, packed: Mapping[str, jax.Array] | None = None
    ) -> jax.Array:
        return completion_logps(packed_apply(predict, packed)(params, tokens), tokens, mask)

    return forward


def logps_of_tokens(params: Params, config: ModelConfig, rows: Sequences, temperature: float) -> np.ndarray:
    """Log-probability float32 [N, T] of every token where the mask is 1, and 0 elsewhere, at a temperature."""
    arrays, logps = {"tokens": rows.tokens, "mask": rows.mask}, np.zeros(rows.tokens.shape, np.float32)
    for members, batch in micro_batches(arrays, np.arange(len(logps)), rows.lengths, SCORING_ROWS):
        batch = placed_rows(batch)
        found = whole(_forward_tokens(params, batch["tokens"], batch["mask"], np.float32(temperature), config))
        logps[members, : found.shape[1]] = found[: len(members)]
    return logps


@partial(jax.jit, static_argnames="config")
def _forward_tokens(
    params: Params, tokens: jax.Array, mask: jax.Array, temperature: jax.Array, config: ModelConfig
) -> jax.Array:
    logits = architecture(config).apply(params, tokens).astype(jnp.float32)
    return token_logps(logits / temperature, tokens) * mask


def logits_of(policy: Policy, tokens: np.ndarray | jax.Array) -> jax.Array:
    """Logits float32 [B, T, V] of a frozen policy, such as a teacher. tokens: int32 [B, T]."""
    found: jax.Array = whole(_logits(policy.params, placed_rows(tokens), policy.config))
    return found


@partial(jax.jit, static_argnames="config")
def _logits(params: Params, tokens: jax.Array, config: ModelConfig) -> jax.Array:
    return architecture(config).apply(params, tokens).astype(jnp.float32)
