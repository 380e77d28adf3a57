"""Completions of prompts, several of each, and the uses of a seed: no two uses share a random key.

In: a sampler, prompts, and the root key of one use of a seed. Out: `Completions`, each keyed by (prompt, sample), so it
is the same in any batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from data.sampling.sampler import Sampler
from scaling.model.flops import sampling_flops
from scaling.model.sampling import row_keys, stop_tokens

# The uses of a key, folded into a stage's root key; GENERATION is for prompts in a notebook.
ROLLOUTS, STEP_VALUES, EVALUATION, SOLVABLE, GENERATION, ON_POLICY, ON_POLICY_VALUES = 1, 2, 3, 4, 5, 6, 7


@dataclass(frozen=True)
class Completions:
    """The samples of the first prompt, then those of the second, and so on."""

    ids: np.ndarray  # int [B, 2], (prompt, sample)
    tokens: list[list[int]]
    logps: np.ndarray | None  # float32 [B] at temperature 1; None if a server does not report them
    truncated_fraction: float
    num_tokens: int
    flops: float


def root_key(seed: int, use: int) -> jax.Array:
    """The key of one use of a seed."""
    return jax.random.fold_in(jax.random.key(seed), use)


def complete(
    sampler: Sampler,
    prompts: Sequence[Sequence[int]],
    num_samples: int,
    root: jax.Array,
    limit: int,
    temperature: float,
    top_p: float,
) -> Completions:
    """Complete each prompt num_samples times, with at most `limit` new tokens."""
    ids = np.indices((len(prompts), num_samples)).reshape(2, -1).T
    rows = [prompts[prompt] for prompt, _ in ids]
    keys = row_keys(root, ids.astype(np.uint32))
    sampled = sampler.sample(rows, keys, [limit] * len(rows), temperature, top_p)
    lengths = sampled.lengths.tolist()
    return Completions(
        ids,
        sampled.completions,
        sampled.logps,
        truncated_fraction(sampled.completions, stop_tokens(sampler.shape)),
        sum(lengths),
        sampling_flops(sampler.shape, map(len, rows), lengths),
    )


def truncated_fraction(completions: Iterable[Sequence[int]], stop_tokens: Sequence[int]) -> float:
    """Share of completions that the limit has cut: they do not end in a stop token."""
    cut = [not tokens or tokens[-1] not in stop_tokens for tokens in completions]
    return sum(cut) / len(cut)
