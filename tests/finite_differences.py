"""A loss in plain float64 NumPy and its gradient by central differences: what losses in float32 are compared with."""

from collections.abc import Callable

import numpy as np

STEP = 1e-6  # of float64 values near 1, so that differences are right to about 1e-9


def gradient(loss: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """The derivative of the loss by each entry."""
    found = np.zeros_like(at, dtype=np.float64)
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(found)
        moved[index] = STEP
        found[index] = (loss(at + moved) - loss(at - moved)) / (2 * STEP)
    return found


def logps_of(logits: np.ndarray, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weighted log-probability float64 [B] of each row's tokens. logits [B, T, V]; tokens, mask [B, T]."""
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_probs[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    return (picked * mask[:, 1:]).sum(axis=-1)
