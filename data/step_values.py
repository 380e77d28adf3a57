"""Step values: how likely the rollout policy is to end right after each step of a rollout.

In: the SFT policy, its verified rollouts, D_syn. Out: `step_values.parquet`, one row a trace (problem, sample,
reward, step_ends, q_values, prompt_value) and `continuations.parquet`, one row a continuation of a prefix.

Setlur et al. 2024 (arXiv 2406.14532), eq. 3: Q(x, y_1..y_i) is the chance that the rollout policy, continuing after
step i, is correct, and A_i = Q_i - Q_{i-1}. The rollout policy is best-of-K of the SFT policy: from M rollouts with
c correct, 1 - C(M-c, K) / C(M, K) is its unbiased estimate. After the last step there is nothing to continue: Q is
the trace's reward. The value of the bare problem comes from the rollouts that were sampled from it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.problems.families import family_of
from data.records import read_problems
from data.rollouts import STEP_VALUES, root_key, token_lists
from data.steps import step_ends
from data.tokenizer import for_problems
from data.verifier import load_verified
from scaling.config import Problems, StepValues, parse
from scaling.model.flops import sampling_flops
from scaling.model.policy import load_policy
from scaling.model.sampling import row_keys, sample

_TRACES = 0x57E9  # keeps the choice of traces apart from other uses of the seed


def best_of_k(num_correct: int, num_rollouts: int, k: int) -> float:
    """Unbiased chance that the best of k rollouts is correct, from num_correct of num_rollouts (Chen et al. 2021)."""
    if not 0 <= num_correct <= num_rollouts:
        raise ValueError(f"num_correct is {num_correct} of {num_rollouts} rollouts.")
    if not 1 <= k <= num_rollouts:
        raise ValueError(f"k is {k}; best-of-k needs 1 to {num_rollouts} from {num_rollouts} rollouts.")
    return 1.0 - math.comb(num_rollouts - num_correct, k) / math.comb(num_rollouts, k)


def advantages(q_values: Sequence[float], prompt_value: float) -> list[float]:
    """A_i = Q_i - Q_{i-1}, with the prompt's value as Q_0; they add up to Q_S - Q_0."""
    before = [prompt_value, *q_values[:-1]]
    return [after - earlier for after, earlier in zip(q_values, before, strict=True)]


def first_pit(q_values: Sequence[float], prompt_value: float, rule: str = "lowest") -> int:
    """Index of the first pit of a negative.

    lowest: the first step with the lowest Q (Setlur et al. 2024); in a negative, whose last Q is 0, that is the
    first step after which no rollout was correct (Self-Explore, Hwang et al. 2024, arXiv 2404.10346).
    largest_drop: the first step with the least advantage.
    """
    if not q_values:
        raise ValueError("a trace without steps has no pit.")
    if rule == "lowest":
        return int(np.argmin(q_values))
    if rule == "largest_drop":
        return int(np.argmin(advantages(q_values, prompt_value)))
    raise ValueError(f"pit rule {rule!r} is unknown; use 'lowest' or 'largest_drop'.")


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Estimate Q. config: problems, step_values, traces, traces_per_problem, seed.

    inputs: policy, synthetic, rollouts, verification.
    """
    settings, values = parse(Problems, config["problems"]), parse(StepValues, config["step_values"])
    tokenizer, family = for_problems(settings), family_of(settings)
    policy = load_policy(inputs["policy"])
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    verified = load_verified(inputs["rollouts"], inputs["verification"])
    fewest = int(verified.groupby("problem").size().min())
    if values.best_of > fewest:
        raise ValueError(
            f"step_values: best_of is {values.best_of}, but the value of a bare problem comes from its own {fewest}"
            " rollouts, and best-of-K needs at least K: raise rollouts.samples_per_problem or lower"
            " step_values.best_of."
        )
    traces = choose_traces(verified, config["traces"], config["traces_per_problem"], config["seed"])
    word = family.step_separator(settings)
    separator = None if word is None else tokenizer.id_of(word)
    traces["step_ends"] = [step_ends(tokens, separator) for tokens in traces["tokens"]]
    prefixes = _prefixes(traces, values.rollouts_per_prefix)
    limit = family.max_completion_words(settings) + 1
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in synthetic]
    starts = [
        prompts[row.problem] + row.tokens[: row.end] for row in prefixes.itertuples(index=False)
    ]  # prompt and the first steps
    sampled = sample(
        policy.params,
        policy.config,
        starts,
        row_keys(
            root_key(config["seed"], STEP_VALUES),
            prefixes[["problem", "sample", "step", "index"]].to_numpy().astype(np.uint32),
        ),
        [max(1, limit - end) for end in prefixes["end"]],
        values.temperature,
    )
    continuations = prefixes.drop(columns="tokens")
    continuations["tokens"] = token_lists(sampled)
    continuations["reward"] = [
        family.check(settings, synthetic[row.problem], tokenizer.decode(row.tokens[: row.end] + continuation)).reward
        for row, continuation in zip(prefixes.itertuples(index=False), continuations["tokens"], strict=True)
    ]
    continuations.to_parquet(out / "continuations.parquet")
    table = with_q_values(traces, verified, continuations, values)
    table.drop(columns="tokens").to_parquet(out / "step_values.parquet")
    flops = sampling_flops(policy.config, [len(start) for start in starts], sampled.lengths.tolist())
    return {
        "num_traces": float(len(table)),
        "num_prefixes": float(len(continuations) // values.rollouts_per_prefix),
        "num_generated_tokens": float(sampled.lengths.sum()),
        "generation_flops": flops,
    }


def choose_traces(verified: pd.DataFrame, which: str, per_problem: int, seed: int) -> pd.DataFrame:
    """Up to per_problem different rollouts of each problem, negatives only or all, at random by (seed, problem)."""
    if which not in ("negatives", "all"):
        raise ValueError(f"traces is {which!r}; use 'negatives' or 'all'.")
    pool = verified[verified["reward"] == 0.0] if which == "negatives" else verified
    kept = []
    for problem, group in pool.groupby("problem", sort=True):
        first_seen = {
            tuple(tokens): index for index, tokens in zip(group.index[::-1], group["tokens"][::-1], strict=True)
        }
        different = np.array(sorted(first_seen.values()))
        order = np.random.default_rng([_TRACES, seed, int(problem)]).permutation(len(different))
        kept.extend(sorted(different[order[:per_problem]]))
    return pool.loc[kept, ["problem", "sample", "reward", "tokens"]].reset_index(drop=True)


def with_q_values(
    traces: pd.DataFrame, verified: pd.DataFrame, continuations: pd.DataFrame, values: StepValues
) -> pd.DataFrame:
    """The traces with q_values (one a step) and prompt_value, the K of best-of-K applied to both."""
    num_correct = continuations.groupby(["problem", "sample", "step"])["reward"].sum()
    by_problem = verified.groupby("problem")["reward"].agg(["sum", "size"])
    table = traces.copy()
    table["q_values"] = [
        [
            best_of_k(int(num_correct[row.problem, row.sample, step]), values.rollouts_per_prefix, values.best_of)
            for step in range(len(row.step_ends) - 1)
        ]
        + [row.reward]
        for row in traces.itertuples(index=False)
    ]
    table["prompt_value"] = [
        best_of_k(int(by_problem["sum"][problem]), int(by_problem["size"][problem]), values.best_of)
        for problem in traces["problem"]
    ]
    return table


def load_step_values(directory: Path, verified: pd.DataFrame) -> pd.DataFrame:
    """The traces with their tokens again: problem, sample, reward, step_ends, q_values, prompt_value, tokens."""
    table = pd.read_parquet(directory / "step_values.parquet")
    table["step_ends"] = [list(map(int, ends)) for ends in table["step_ends"]]
    table["q_values"] = [list(map(float, q_values)) for q_values in table["q_values"]]
    tokens = verified[["problem", "sample", "tokens"]]
    return table.merge(tokens, on=["problem", "sample"], validate="one_to_one")


def _prefixes(traces: pd.DataFrame, num_rollouts: int) -> pd.DataFrame:
    """One row a continuation to sample: problem, sample, step, index, end (tokens of the prefix), tokens."""
    rows = [
        (row.problem, row.sample, step, index, end, row.tokens)
        for row in traces.itertuples(index=False)
        for step, end in enumerate(row.step_ends[:-1])
        for index in range(num_rollouts)
    ]
    return pd.DataFrame(rows, columns=["problem", "sample", "step", "index", "end", "tokens"])
