"""Evaluation: the 0/1 outcome of every (run, problem), which the statistics need.

In: a policy and the fixed problems. Out: `outcomes.parquet`, one row a problem: problem (its key), wrong (greedy),
error_kind (none, fact, procedure, unknown), num_correct of num_samples sampled completions. Samples are keyed by (seed,
problem, sample). pass@k is the unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from data.description import describe
from data.problems.families import family_of
from data.rollouts import EVALUATION, root_key, token_lists
from data.sampling.sampler import sampler_of
from data.sets.problem_sets import load_problems
from data.step_values import best_of_k
from data.tokens.limits import completion_limit, truncated_fraction
from data.tokens.tokenizer import tokenizer_of
from scaling.config.problems import Problems
from scaling.config.sampling import Evaluation
from scaling.config.section import parse
from scaling.model.flops import sampling_flops
from scaling.model.sampling import row_keys, stop_tokens


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Measure. config: problems, evaluation, split, seed, and web_seed to look for misconceptions.

    inputs: policy, problems.
    """
    settings, evaluation = parse(Problems, config["problems"]), parse(Evaluation, config["evaluation"])
    tokenizer, family = tokenizer_of(settings, inputs), family_of(settings)
    sampler = sampler_of(config, inputs, out, tokenizer)
    problems = load_problems(inputs["problems"], config["split"])
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in problems]
    limit = completion_limit(settings, tokenizer, evaluation.max_new_tokens)
    root = root_key(config["seed"], EVALUATION)
    num_samples = evaluation.samples_per_problem

    def complete(ids: np.ndarray, temperature: float, top_p: float):
        """Checks of one completion for each (problem, sample) of ids, the share cut short, the FLOPs of making them."""
        rows = [prompts[problem] for problem, _ in ids]
        keys = row_keys(root, ids.astype(np.uint32))
        sampled = sampler.sample(rows, keys, [limit] * len(ids), temperature, top_p)
        completions = token_lists(sampled)
        checks = [
            family.check(settings, problems[problem], tokenizer.decode(tokens))
            for (problem, _), tokens in zip(ids, completions, strict=True)
        ]
        truncated = truncated_fraction(completions, stop_tokens(sampler.shape))
        return checks, truncated, sampling_flops(sampler.shape, map(len, rows), sampled.lengths.tolist())

    greedy, truncated, flops = complete(np.indices((len(problems), 1)).reshape(2, -1).T, temperature=0.0, top_p=1.0)
    frame = pd.DataFrame(
        {
            "problem": [problem.key for problem in problems],
            "wrong": np.array([check.reward != 1.0 for check in greedy], np.int8),
            "error_kind": [check.error_kind for check in greedy],
        }
    )
    numbers = {
        "error": float(frame["wrong"].mean()),
        "num_problems": float(len(frame)),
        "truncated_fraction": truncated,
    }
    if all(check.steps_are_judged for check in greedy):
        numbers["procedure_error_fraction"] = float((frame["error_kind"] == "procedure").mean())
    else:
        numbers["no_answer_fraction"] = float(np.mean([check.answer is None for check in greedy]))
    if num_samples:
        ids = np.indices((len(problems), num_samples)).reshape(2, -1).T
        sampled, _, more = complete(ids, evaluation.temperature, evaluation.top_p)
        flops += more
        rewards = np.array([check.reward for check in sampled]).reshape(len(problems), num_samples)
        frame["num_correct"] = rewards.sum(axis=1).astype(int)
        frame["num_samples"] = num_samples
        for k in evaluation.pass_at:
            numbers[f"pass_at_{k}"] = float(np.mean([best_of_k(c, num_samples, k) for c in frame["num_correct"]]))
        if evaluation.describe:
            numbers |= describe(settings, sampled, num_samples, config.get("web_seed"))
    frame.to_parquet(out / "outcomes.parquet")
    return {**numbers, "evaluation_flops": flops, **sampler.numbers()}
