"""Rollouts: several completions of each problem from a policy, as a table with a row each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.records import Problem
from data.sampling.completions import ROLLOUTS, complete, root_key
from data.sampling.sampler import sampler_of
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.problems import problems_of
from scaling.config.sampling import Rollouts
from scaling.config.section import parse


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
