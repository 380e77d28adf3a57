"""Step values: how likely the rollout policy is to end right after each step of a rollout.

In: the SFT policy, its verified rollouts, D_syn. Out: `step_values.parquet`, one row a trace (problem, sample,
reward, step_ends, q_values, prompt_value) and `continuations.parquet`, one row a continuation of a prefix.

Setlur et al. 2024 (arXiv 2406.14532), eq. 3: Q(x, y_1..y_i) is the chance that the rollout policy, continuing after
step i, is correct, and A_i = Q_i - Q_{i-1}. The rollout policy is best-of-K of the SFT policy: from M rollouts with
c correct, 1 - C(M-c, K) / C(M, K) is its unbiased estimate. After the last step there is nothing to continue: Q is
the trace's reward. The value of the bare problem comes from the rollouts that were sampled from it.

The estimate is exhaustive, M continuations of every prefix, unless `step_values.adaptive` is set: then the first pits
are found with fewer, and most Q stay unknown (data.adaptive_values).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.adaptive_values import continuations_to_pits, with_known_values
from data.continuations import Source, all_indices, judged, requests
from data.records import read_problems
from data.rollouts import ROLLOUT_ID, require_rows, token_lists
from data.sampling.sampler import sampler_of
from data.tokens.limits import completion_limit
from data.tokens.steps import step_cutter
from data.tokens.tokenizer import tokenizer_of
from data.verifier import load_verified
from scaling.config.problems import Problems
from scaling.config.sampling import StepValues
from scaling.config.section import parse
from scaling.model.flops import sampling_flops

_TRACES = 0x57E9  # keeps the choice of traces apart from other uses of the seed


def best_of_k(num_correct: int, num_rollouts: int, k: int) -> float:
    """Unbiased chance that the best of k rollouts is correct, from num_correct of num_rollouts (Chen et al. 2021)."""
    if not 0 <= num_correct <= num_rollouts:
        raise ValueError(f"num_correct is {num_correct} of {num_rollouts} rollouts.")
    if not 1 <= k <= num_rollouts:
        raise ValueError(f"k is {k}; best-of-k needs 1 to {num_rollouts} from {num_rollouts} rollouts.")
    return 1.0 - math.comb(num_rollouts - num_correct, k) / math.comb(num_rollouts, k)


def advantages(q_values: Sequence[float | None], prompt_value: float) -> list[float]:
    """A_i = Q_i - Q_{i-1}, with the prompt's value as Q_0; they add up to Q_S - Q_0."""
    if None in q_values:
        raise ValueError(
            "advantages need Q of every step, but an adaptive estimate leaves some unknown; set step_values.adaptive:"
            " false."
        )
    before = [prompt_value, *q_values[:-1]]
    return [after - earlier for after, earlier in zip(q_values, before, strict=True)]


def first_pit(q_values: Sequence[float | None], prompt_value: float, rule: str = "lowest") -> int:
    """Index of the first pit of a negative. A Q is None where an adaptive estimate knows it above 0, or later than a 0.

    lowest: the first step with the lowest Q (Setlur et al. 2024); in a negative, whose last Q is 0, that is the
    first step after which no rollout was correct (Self-Explore, Hwang et al. 2024, arXiv 2404.10346).
    largest_drop: the first step with the least advantage.
    """
    if not q_values:
        raise ValueError("a trace without steps has no pit.")
    if rule == "lowest":
        return q_values.index(0.0) if None in q_values else int(np.argmin(q_values))
    if rule == "largest_drop":
        return int(np.argmin(advantages(q_values, prompt_value)))
    raise ValueError(f"pit rule {rule!r} is unknown; use 'lowest' or 'largest_drop'.")


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Estimate Q. config: problems, step_values, traces, traces_per_problem, seed, and max_new_tokens where set.

    inputs: policy, synthetic, rollouts, verification, and tokenizer if imported.
    """
    settings, values = parse(Problems, config["problems"]), parse(StepValues, config["step_values"])
    tokenizer = tokenizer_of(settings, inputs)
    sampler = sampler_of(config, inputs, out, tokenizer)
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
    traces["step_ends"] = list(map(step_cutter(settings, tokenizer), traces["tokens"]))
    limit = completion_limit(settings, tokenizer, config.get("max_new_tokens"))
    source = Source(settings, tokenizer, synthetic, config["seed"], limit)
    if values.adaptive:
        continuations, replay = continuations_to_pits(source, values, traces, sampler)
        table = with_known_values(traces, continuations, values.rollouts_per_prefix)
        numbers = {
            "num_continuations": float(len(continuations)),
            "num_exhaustive_continuations": float(len(all_indices(traces, values.rollouts_per_prefix))),
            "num_generated_tokens": float(replay.num_generated_tokens),
            "num_replayed_tokens": float(replay.num_replayed_tokens),
            "generation_flops": replay.generation_flops,
        }
        if not replay.keeps_logits:
            numbers["vocab_size_too_large_to_replay"] = float(sampler.shape.vocab_size)  # why nothing was replayed
    else:
        asked = requests(source, traces, all_indices(traces, values.rollouts_per_prefix))
        sampled = sampler.sample(asked.starts, asked.keys, asked.limits, values.temperature)
        continuations = judged(source, asked, token_lists(sampled))
        table = with_q_values(traces, continuations, values)
        lengths = sampled.lengths.tolist()
        numbers = {
            "num_generated_tokens": float(sum(lengths)),
            "generation_flops": sampling_flops(sampler.shape, map(len, asked.starts), lengths),
        }
    continuations.to_parquet(out / "continuations.parquet")
    table = with_prompt_value(table, verified, values.best_of)
    table.drop(columns="tokens").to_parquet(out / "step_values.parquet")
    num_prefixes = len(continuations[["problem", "sample", "step"]].drop_duplicates())
    return {"num_traces": float(len(table)), "num_prefixes": float(num_prefixes), **numbers, **sampler.numbers()}


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


def with_q_values(traces: pd.DataFrame, continuations: pd.DataFrame, values: StepValues) -> pd.DataFrame:
    """The traces with q_values, one a step: best-of-K of M continuations each, and the reward after the last."""
    num_correct = continuations.groupby(["problem", "sample", "step"])["reward"].sum()
    table = traces.copy()
    table["q_values"] = [
        [
            best_of_k(int(num_correct[row.problem, row.sample, step]), values.rollouts_per_prefix, values.best_of)
            for step in range(len(row.step_ends) - 1)
        ]
        + [row.reward]
        for row in traces.itertuples(index=False)
    ]
    return table


def with_prompt_value(table: pd.DataFrame, verified: pd.DataFrame, best_of: int) -> pd.DataFrame:
    """The traces with prompt_value: best-of-K of the problem's own rollouts."""
    by_problem = verified.groupby("problem")["reward"].agg(["sum", "size"])
    prompt_values = [
        best_of_k(int(by_problem["sum"][problem]), int(by_problem["size"][problem]), best_of)
        for problem in table["problem"]
    ]
    return table.assign(prompt_value=prompt_values)


def load_step_values(directory: Path, verified: pd.DataFrame) -> pd.DataFrame:
    """The traces with their tokens again: problem, sample, reward, step_ends, q_values, prompt_value, tokens."""
    table = pd.read_parquet(directory / "step_values.parquet")
    table["step_ends"] = [list(map(int, ends)) for ends in table["step_ends"]]
    table["q_values"] = [[None if pd.isna(q) else float(q) for q in q_values] for q_values in table["q_values"]]
    require_rows(verified, "the table of verified rollouts", table, directory / "step_values.parquet")
    return table.merge(verified[[*ROLLOUT_ID, "tokens"]], on=ROLLOUT_ID, validate="one_to_one")
