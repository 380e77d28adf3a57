"""Log-probabilities of completions: the one right way to shift, mask and sum.

Everything is float32, whatever the params are in.
"""

import jax
import jax.numpy as jnp


def token_logps(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Log-probability of each token given those before it.

    logits: float [B, T, V] of the same sequences; tokens: int32 [B, T].
    Returns: float32 [B, T]; position 0, which nothing predicts, is 0.
    """
    if logits.shape[:2] != tokens.shape:
        raise ValueError(f"logits are {logits.shape}, tokens {tokens.shape}; the first two axes must agree.")
    log_probs = jax.nn.log_softmax(logits[:, :-1].astype(jnp.float32), axis=-1)
    picked = jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.pad(picked, ((0, 0), (1, 0)))


def completion_logps(logits: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Summed log-probability float32 [B] of the tokens where mask float32 [B, T] is 1."""
    return jnp.sum(token_logps(logits, tokens) * mask, axis=-1)
