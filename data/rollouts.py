"""Rollouts: completions of D_syn's problems sampled from the SFT policy.

In: a policy and D_syn. Out: `rollouts.parquet`, one row a rollout: problem (row of D_syn), sample, tokens, logp
(at temperature 1). Each rollout's randomness is keyed by (seed, problem, sample): it is the same whatever the batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from data.problems.families import family_of
from data.records import read_problems
from data.tokenizer import tokenizer_of
from scaling.data_config import Rollouts
from scaling.model.flops import sampling_flops
from scaling.model.policy import policy_of
from scaling.model.sampling import Sampled, row_keys, sample
from scaling.problem_config import Problems
from scaling.section import parse

ROLLOUTS = 1  # what a key is used for; folded into the stage's root key, so that no two uses share one
STEP_VALUES = 2
EVALUATION = 3


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample. config: problems, rollouts, seed; inputs: policy, synthetic, and tokenizer if imported."""
    problems, settings = parse(Problems, config["problems"]), parse(Rollouts, config["rollouts"])
    tokenizer, family = tokenizer_of(problems, inputs), family_of(problems)
    policy = policy_of(inputs, "policy")
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in synthetic]
    ids = np.indices((len(prompts), settings.samples_per_problem)).reshape(2, -1).T  # (problem, sample)
    limit = tokenizer.room_for(family.max_completion_words(problems), family.vocabulary(problems)) + 1
    sampled = sample(
        policy.params,
        policy.config,
        [prompts[problem] for problem, _ in ids],
        row_keys(root_key(config["seed"], ROLLOUTS), ids.astype(np.uint32)),
        [limit] * len(ids),
        settings.temperature,
        settings.top_p,
    )
    frame = pd.DataFrame({"problem": ids[:, 0], "sample": ids[:, 1]})
    frame["tokens"] = token_lists(sampled)
    frame["logp"] = sampled.logps
    frame.to_parquet(out / "rollouts.parquet")
    lengths = sampled.lengths.tolist()
    flops = sampling_flops(policy.config, [len(prompts[problem]) for problem in frame["problem"]], lengths)
    return {
        "num_rollouts": float(len(frame)),
        "num_generated_tokens": float(sum(lengths)),
        "generation_flops": flops,
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
