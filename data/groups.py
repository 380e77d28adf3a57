"""Groups of completions of one problem, judged: what an on-policy learner samples in each of its iterations.

In: the policy's params of the moment. Out: a table with one row a completion: problem (row of D_syn), sample, slot (the
place of its group among those that are learned from, -1 if it was replaced), tokens, logp (at temperature 1), reward;
and, where its steps are continued, what the continuations show.

A completion's randomness is keyed by (seed, iteration, problem, sample), and the problems of an iteration follow from
(seed, iteration): what an iteration samples depends on its policy alone, not on how that was reached.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
import pandas as pd

from data.continuations import Source, all_indices, judged, requests, rewards
from data.sampling.completions import ON_POLICY, ON_POLICY_VALUES, root_key
from scaling.model.flops import sampling_flops
from scaling.model.sampling import row_keys, sample
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params

_ORDER = 0x6209  # keeps the order of problems apart from other uses of the seed


@dataclass(frozen=True)
class Draws:
    """What is sampled in each iteration."""

    source: Source
    shape: ModelConfig
    num_groups: int
    num_samples: int  # of each group
    num_replacing: int  # most attempts to replace groups of equal rewards by others
    temperature: float


def draw(draws: Draws, params: Params, iteration: int) -> pd.DataFrame:
    """The groups of an iteration, those that were replaced included, in the order in which they were sampled."""
    seen, tables, num_drawn = Counter[int](), list[pd.DataFrame](), 0
    wanted = np.arange(draws.num_groups)  # slots without a gradient so far
    owners = np.zeros(draws.num_groups, int)  # of each slot the group that is learned from
    for attempt in range(1 + draws.num_replacing):
        problems = problems_of_attempt(draws, iteration, attempt)[: len(wanted)]
        tables.append(_completed(draws, params, iteration, problems, seen))
        mixed = have_gradient(tables[-1]["reward"].to_numpy().reshape(-1, draws.num_samples))
        taken = mixed | (attempt == 0)
        owners[wanted[taken]] = num_drawn + np.flatnonzero(taken)
        num_drawn += len(wanted)
        wanted = wanted[~mixed]
        if not len(wanted):
            break
    slots = np.full(num_drawn, -1)
    slots[owners] = np.arange(draws.num_groups)
    return pd.concat(tables, ignore_index=True).assign(slot=np.repeat(slots, draws.num_samples))


def with_continuations(
    draws: Draws,
    params: Params,
    iteration: int,
    table: pd.DataFrame,
    cutter: Callable[[Sequence[int]], list[int]],
    num_rollouts: int,
) -> pd.DataFrame:
    """The completions of an iteration, each continued num_rollouts times after every step but the last.

    cutter: tokens -> the offset at which each step ends. More columns: step_ends; num_correct, how many continuations
    were right after each step but the last; continuation_tokens, sampled in all of them, and continuation_flops.
    A continuation is keyed by (seed, iteration, problem, sample, step, index).
    """
    table = table.assign(step_ends=list(map(cutter, table["tokens"])))
    root = jax.random.fold_in(root_key(draws.source.seed, ON_POLICY_VALUES), iteration)
    indices = all_indices(table, num_rollouts)
    num_correct = [np.zeros(len(ends) - 1, int) for ends in table["step_ends"]]
    tokens, flops = np.zeros(len(table), int), np.zeros(len(table))
    if indices:
        asked = requests(draws.source, table, indices, root)
        sampled = sample(params, draws.shape, asked.starts, asked.keys, asked.limits, draws.temperature)
        right = judged(draws.source, asked, sampled.completions)["reward"]
        lengths = sampled.lengths.tolist()
        for (row, step, _), start, new, reward in zip(indices, asked.starts, lengths, right, strict=True):
            num_correct[row][step] += int(reward)
            tokens[row] += new
            flops[row] += sampling_flops(draws.shape, [len(start)], [new])
    return table.assign(num_correct=num_correct, continuation_tokens=tokens, continuation_flops=flops)


def have_gradient(rewards: np.ndarray) -> np.ndarray:
    """bool [N]: whether a group has different rewards. rewards: float [N, G]."""
    different: np.ndarray = rewards.min(axis=1) < rewards.max(axis=1)
    return different


def problems_of_attempt(draws: Draws, iteration: int, attempt: int) -> list[int]:
    """Rows of D_syn, one a group: the next ones of shuffled passes over all problems."""
    size, count = len(draws.source.synthetic), draws.num_groups
    first = (iteration * (1 + draws.num_replacing) + attempt) * count
    passes = range(first // size, (first + count - 1) // size + 1)
    orders = [np.random.default_rng([_ORDER, draws.source.seed, index]).permutation(size) for index in passes]
    start = first - passes[0] * size
    found: list[int] = np.concatenate(orders)[start : start + count].tolist()
    return found


def _completed(
    draws: Draws, params: Params, iteration: int, problems: Sequence[int], seen: Counter[int]
) -> pd.DataFrame:
    """A group of each problem. seen: the groups of each problem in this iteration so far, whose samples come first."""
    source, ids = draws.source, list[tuple[int, int]]()
    for problem in problems:
        start = seen[problem] * draws.num_samples
        ids += [(problem, start + index) for index in range(draws.num_samples)]
        seen[problem] += 1
    keyed = np.array([(iteration, *row) for row in ids], np.uint32)
    rows = [problem for problem, _ in ids]
    sampled = sample(
        params,
        draws.shape,
        source.prompts(rows),
        row_keys(root_key(source.seed, ON_POLICY), keyed),
        [source.limit] * len(ids),
        draws.temperature,
    )
    columns = dict(zip(("problem", "sample"), np.array(ids).T, strict=True))
    found = rewards(source, rows, sampled.completions)
    return pd.DataFrame({**columns, "tokens": sampled.completions, "logp": sampled.logps, "reward": found})
