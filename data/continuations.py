"""Continuations of prefixes of a rollout: the requests to a sampler, and the verifier's rewards for the results.

In: traces with their tokens and step_ends, and which (trace, step, index) to continue. Out: starts, keys and limits
for sampling, and a table with one row a continuation: problem, sample, step, index, end (tokens of the prefix),
tokens, reward. A key follows from (seed, problem, sample, step, index), so a continuation does not
depend on which others are requested.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd

from data.problems.families import family_of
from data.records import Problem
from data.rewards import reward
from data.sampling.completions import STEP_VALUES, root_key
from data.tokens.tokenizer import AnyTokenizer
from scaling.config.problems import Problems
from scaling.config.sampling import Verifier
from scaling.model.sampling import row_keys

COLUMNS = ("problem", "sample", "step", "index", "end")


@dataclass(frozen=True)
class Source:
    """The settings of continuations."""

    settings: Problems  # the family's config
    tokenizer: AnyTokenizer
    synthetic: Sequence[Problem]
    seed: int
    limit: int  # most new tokens of a completion, the continued prefix included
    verifier: Verifier

    def prompts(self, problems: Sequence[int]) -> list[list[int]]:
        """The tokens of the prompts of these rows of D_syn."""
        known = {row: self.tokenizer.encode_prompt(self.synthetic[row].prompt) for row in set(problems)}
        return [known[row] for row in problems]


@dataclass(frozen=True)
class Requests:
    """What to sample, in the order of the rows of `prefixes`."""

    prefixes: pd.DataFrame  # COLUMNS, and written: the tokens of the prefix without its prompt
    starts: list[list[int]]  # prompt and the first steps
    keys: jax.Array  # typed keys [B]
    limits: list[int]  # most new tokens


def all_indices(traces: pd.DataFrame, num_rollouts: int) -> list[tuple[int, int, int]]:
    """Every (row of traces, step, index) that can be continued: all steps but the last."""
    return [
        (trace, step, index)
        for trace, ends in enumerate(traces["step_ends"])
        for step in range(len(ends) - 1)
        for index in range(num_rollouts)
    ]


def requests(
    source: Source, traces: pd.DataFrame, asked: Iterable[tuple[Any, ...]], root: jax.Array | None = None
) -> Requests:
    """Continuation `index` of the first `step` + 1 steps of a trace, for each (row of traces, step, index).

    root: of the random keys; by default that of the stage of step values.
    """
    root = root_key(source.seed, STEP_VALUES) if root is None else root
    rows = list(traces[["problem", "sample", "tokens", "step_ends"]].itertuples(index=False))
    found = []
    for trace, step, index in asked:
        row = rows[trace]
        end = row.step_ends[step]
        found.append((row.problem, row.sample, step, index, end, row.tokens[:end]))
    prefixes = pd.DataFrame(found, columns=[*COLUMNS, "written"])
    ids = prefixes[["problem", "sample", "step", "index"]].to_numpy().astype(np.uint32)
    prompts = source.prompts(prefixes["problem"].tolist())
    return Requests(
        prefixes,
        [prompt + written for prompt, written in zip(prompts, prefixes["written"], strict=True)],
        row_keys(root, ids),
        [max(1, source.limit - end) for end in prefixes["end"]],
    )


def judged(source: Source, asked: Requests, completions: Sequence[list[int]]) -> pd.DataFrame:
    """The table of continuations, each rewarded for its prefix and itself together."""
    table = asked.prefixes.drop(columns="written")
    table["tokens"] = completions
    whole = [written + completion for written, completion in zip(asked.prefixes["written"], completions, strict=True)]
    table["reward"] = rewards(source, table["problem"].tolist(), whole)
    return table


def rewards(source: Source, problems: Sequence[int], completions: Sequence[list[int]]) -> list[float]:
    """The verifier's reward of each whole completion. problems: their rows of D_syn."""
    family, found = family_of(source.settings), []
    for index, tokens in zip(problems, completions, strict=True):
        problem, completion = source.synthetic[index], source.tokenizer.decode(tokens)
        check = family.check(source.settings, problem, completion)
        found.append(reward(source.verifier, problem, completion, check))
    return found
