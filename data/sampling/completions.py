"""Completions of prompts, several of each, and the uses of a seed: no two uses share a random key.

In: a sampler, prompts, and the root key of one use of a seed. Out: `Completions`, each keyed by (prompt, sample), so it
is the same in any batch. Rollouts are several completions of each problem from a policy, as a table with a row each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from data.problems.families import family_of
from data.records import Check, Problem
from data.sampling.sampler import Sampler, sampler_of
from data.tokens.tokenizer import AnyTokenizer, completion_limit, tokenizer_of
from scaling.config.problems import Problems, problems_of
from scaling.config.sampling import Rollouts
from scaling.config.section import parse
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


def checked(found: Completions, config: Problems, problems: Sequence[Problem], tokenizer: AnyTokenizer) -> list[Check]:
    """The family's verdict on each completion. problems: those whose prompts were completed."""
    check = family_of(config).check
    return [
        check(config, problems[prompt], tokenizer.decode(tokens))
        for prompt, tokens in zip(found.ids[:, 0], found.tokens, strict=True)
    ]


def sample_rollouts(
    config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, synthetic: Sequence[Problem]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Columns problem, sample, tokens, and logp if the sampler reports it; and the numbers of a record.

    config: problems, rollouts, seed; inputs: policy, and tokenizer if imported. out: a stage's working directory.
    """
    problems, settings = problems_of(config), parse(Rollouts, config["rollouts"])
    tokenizer = tokenizer_of(problems, inputs)
    sampler = sampler_of(config, inputs, out, tokenizer)
    found = complete(
        sampler,
        [tokenizer.encode_prompt(problem.prompt) for problem in synthetic],
        settings.samples_per_problem,
        root_key(config["seed"], ROLLOUTS),
        completion_limit(problems, tokenizer, settings.max_new_tokens),
        settings.temperature,
        settings.top_p,
    )
    table = pd.DataFrame({"problem": found.ids[:, 0], "sample": found.ids[:, 1]})
    table["tokens"] = found.tokens
    if found.logps is not None:
        table["logp"] = found.logps
    numbers = {
        "num_rollouts": float(len(table)),
        "truncated_fraction": found.truncated_fraction,
        "num_generated_tokens": float(found.num_tokens),
        "generation_flops": found.flops,
        **sampler.numbers(),
    }
    return table, numbers


def truncated_fraction(completions: Iterable[Sequence[int]], stop_tokens: Sequence[int]) -> float:
    """Share of completions that the limit has cut: they do not end in a stop token."""
    cut = [not tokens or tokens[-1] not in stop_tokens for tokens in completions]
    return sum(cut) / len(cut)
