"""Rollouts: completions of D_syn's problems sampled from the SFT policy.

In: a policy and D_syn. Out: `rollouts.parquet`, one row a rollout: problem (row of D_syn), sample, tokens, logp
(at temperature 1). Each rollout's randomness is keyed by (seed, problem, sample): it is the same whatever the batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from data.records import read_problems
from data.sampling.sampler import sampler_of
from data.tokens.limits import completion_limit, truncated_fraction
from data.tokens.tokenizer import tokenizer_of
from scaling.config.problems import Problems
from scaling.config.sampling import Rollouts
from scaling.config.section import parse
from scaling.model.flops import sampling_flops
from scaling.model.sampling import Sampled, row_keys, stop_tokens

ROLLOUTS = 1  # what a key is used for; folded into the stage's root key, so that no two uses share one
STEP_VALUES = 2
EVALUATION = 3
GENERATION = 5  # on request, in a notebook; 4 is in data.sets.solvable

ROLLOUT_ID = ["problem", "sample"]  # what names a rollout in every table that has a row for it


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample. config: problems, rollouts, seed; inputs: policy, synthetic, and tokenizer if imported."""
    problems, settings = parse(Problems, config["problems"]), parse(Rollouts, config["rollouts"])
    tokenizer = tokenizer_of(problems, inputs)
    sampler = sampler_of(config, inputs, out, tokenizer)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in synthetic]
    ids = np.indices((len(prompts), settings.samples_per_problem)).reshape(2, -1).T  # (problem, sample)
    limit = completion_limit(problems, tokenizer, settings.max_new_tokens)
    sampled = sampler.sample(
        [prompts[problem] for problem, _ in ids],
        row_keys(root_key(config["seed"], ROLLOUTS), ids.astype(np.uint32)),
        [limit] * len(ids),
        settings.temperature,
        settings.top_p,
    )
    frame = pd.DataFrame({"problem": ids[:, 0], "sample": ids[:, 1]})
    frame["tokens"] = token_lists(sampled)
    if sampled.logps is not None:  # a server need not tell them
        frame["logp"] = sampled.logps
    frame.to_parquet(out / "rollouts.parquet")
    lengths = sampled.lengths.tolist()
    flops = sampling_flops(sampler.shape, [len(prompts[problem]) for problem in frame["problem"]], lengths)
    return {
        "num_rollouts": float(len(frame)),
        "truncated_fraction": truncated_fraction(frame["tokens"], stop_tokens(sampler.shape)),
        "num_generated_tokens": float(sum(lengths)),
        "generation_flops": flops,
        **sampler.numbers(),
    }


def root_key(seed: int, use: int) -> jax.Array:
    """The key of one use of a seed."""
    return jax.random.fold_in(jax.random.key(seed), use)


def token_lists(sampled: Sampled) -> Sequence[list[int]]:
    """Each completion's tokens, EOS included where the policy wrote it."""
    return [row[:length].tolist() for row, length in zip(sampled.tokens, sampled.lengths, strict=True)]


def load_rollouts(directory: Path) -> pd.DataFrame:
    """Columns problem, sample, tokens (lists of int), logp; sorted by problem and sample."""
    frame = pd.read_parquet(directory / "rollouts.parquet")
    frame["tokens"] = [list(map(int, tokens)) for tokens in frame["tokens"]]
    return frame


def require_rows(table: pd.DataFrame, place: Path | str, other: pd.DataFrame, other_place: Path | str) -> None:
    """Raise unless `table` has one row for each rollout that has one in `other`. The places are for the message."""
    index, wanted = (pd.MultiIndex.from_frame(frame[ROLLOUT_ID]) for frame in (table, other))
    for wrong, what in (
        (index[index.duplicated()], f"{place} has more than one row"),
        (wanted[wanted.duplicated()], f"{other_place} has more than one row"),
        (wanted[~wanted.isin(index)], f"{place} has no row, but {other_place} has one,"),
    ):
        if len(wrong):
            problem, sample = wrong[0]
            raise ValueError(
                f"{what} for {len(wrong)} rollouts, the first of them problem {problem}, sample {sample}; expected one"
                " row a rollout in both. One of them was edited or is of other rollouts: delete both artifacts and run"
                " the sweep again."
            )
