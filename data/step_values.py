"""Step values: the chance that the rollout policy ends right after each step of a rollout.

In: the SFT policy, its verified rollouts, D_syn. Out: `step_values.parquet`, one row a trace (problem, sample,
reward, step_ends, q_values, prompt_value) and `continuations.parquet`, one row a continuation of a prefix.

Setlur et al. 2024 (arXiv 2406.14532), eq. 3: Q(x, y_1..y_i) is the chance that the rollout policy, continuing after
step i, is correct, and A_i = Q_i - Q_{i-1}. The rollout policy is best-of-K of the SFT policy: from M rollouts with
c correct, 1 - C(M-c, K) / C(M, K) is its unbiased estimate. After the last step there is nothing to continue: Q is
the trace's reward. The value of the bare problem comes from the rollouts that were sampled from it.

The estimate is exhaustive, M continuations of every prefix, unless `step_values.adaptive` is set: then the first pits
are found with fewer, and most Q remain unknown (data.adaptive_values).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.adaptive_values import continuations_to_pits, with_known_values
from data.continuations import Source, all_indices, judged, requests
from data.q_values import best_of_k
from data.records import read_problems
from data.rewards import verifier_of
from data.rollout_tables import by_problem, load_verified, with_tokens
from data.sampling.sampler import sampler_of
from data.tokens.answer_end import up_to_answer
from data.tokens.steps import step_cutter
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.problems import problems_of
from scaling.config.sampling import StepValues
from scaling.config.section import parse
from scaling.model.flops import sampling_flops

_TRACES = 0x57E9  # keeps the choice of traces apart from other uses of the seed


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Estimate Q. config: problems, step_values, traces, traces_per_problem, seed; max_new_tokens, verifier where set.

    inputs: policy, synthetic, rollouts, verification, and tokenizer if imported.
    """
    settings, values = problems_of(config), parse(StepValues, config["step_values"])
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
    ended = with_tokens(verified, up_to_answer(settings, tokenizer))
    traces = choose_traces(ended, config["traces"], config["traces_per_problem"], config["seed"])
    traces["step_ends"] = list(map(step_cutter(settings, tokenizer), traces["tokens"]))
    limit = completion_limit(settings, tokenizer, config.get("max_new_tokens"))
    source = Source(settings, tokenizer, synthetic, config["seed"], limit, verifier_of(config))
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
        if not replay.keeps_logits and "server" not in config:  # the reason that nothing was replayed
            numbers["vocab_size_too_large_to_replay"] = float(sampler.shape.vocab_size)
    else:
        asked = requests(source, traces, all_indices(traces, values.rollouts_per_prefix))
        sampled = sampler.sample(asked.starts, asked.keys, asked.limits, values.temperature)
        continuations = judged(source, asked, sampled.completions)
        table = with_q_values(traces, continuations, values)
        lengths = sampled.lengths.tolist()
        numbers = {
            "num_generated_tokens": float(sum(lengths)),
            "generation_flops": sampling_flops(sampler.shape, map(len, asked.starts), lengths),
        }
    continuations.to_parquet(out / "continuations.parquet")
    table = with_prompt_value(table, verified, values.best_of)
    if list(ended["tokens"]) == list(verified["tokens"]):  # those of the rollouts are not stored again
        table = table.drop(columns="tokens")
    table.to_parquet(out / "step_values.parquet")
    num_prefixes = len(continuations[["problem", "sample", "step"]].drop_duplicates())
    return {"num_traces": float(len(table)), "num_prefixes": float(num_prefixes), **numbers, **sampler.numbers()}


def choose_traces(verified: pd.DataFrame, which: str, per_problem: int, seed: int) -> pd.DataFrame:
    """Up to per_problem different rollouts of each problem, negatives only or all, at random by (seed, problem)."""
    if which not in ("negatives", "all"):
        raise ValueError(f"traces is {which!r}; use 'negatives' or 'all'.")
    pool = verified[verified["reward"] == 0.0] if which == "negatives" else verified
    kept: list[Any] = []
    for problem, group in by_problem(pool):
        different = group.index[~group["tokens"].map(tuple).duplicated()].to_numpy()
        order = np.random.default_rng([_TRACES, seed, problem]).permutation(len(different))
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
    by_problem = verified.groupby("problem")["reward"]
    values = {problem: best_of_k(int(rewards.sum()), len(rewards), best_of) for problem, rewards in by_problem}
    return table.assign(prompt_value=[values[problem] for problem in table["problem"]])
