"""Evaluation: the 0/1 outcome of every (run, problem), which the statistics need.

In: a policy and the fixed problems. Out: `outcomes.parquet`, one row a problem: problem (its key), wrong (greedy),
error_kind (none, fact, procedure, unknown), num_correct of num_samples sampled completions; and `completions.parquet`,
the tokens of the greedy completions, for display. Samples are keyed by (seed,
problem, sample). pass@k is the unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374). On
request it also describes the sampled completions: spurious and unneeded steps, wrong facts, misconceptions, diversity.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.problems.families import family_of
from data.q_values import best_of_k
from data.records import Check, load_problems
from data.sampling.completions import EVALUATION, Completions, checked, complete, root_key
from data.sampling.sampler import sampler_of
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.problems import Problems, problems_of
from scaling.config.sampling import Evaluation
from scaling.config.section import parse
from scaling.config.text_problems import TextProblems


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Measure. config: problems, evaluation, split, seed; web_seed to find misconceptions, and trained_on, the problems
    whose vocabulary the policy has, where they are others.

    inputs: policy, problems.
    """
    settings, evaluation = problems_of(config), parse(Evaluation, config["evaluation"])
    trained_on = problems_of({"problems": config["trained_on"]}) if "trained_on" in config else settings
    tokenizer = tokenizer_of(trained_on, inputs)
    sampler = sampler_of(config, inputs, out, tokenizer)
    problems = load_problems(inputs["problems"], config["split"])
    prompts = [tokenizer.encode_prompt(problem.prompt) for problem in problems]
    limit = completion_limit(settings, tokenizer, evaluation.max_new_tokens)
    root = root_key(config["seed"], EVALUATION)
    num_samples = evaluation.samples_per_problem

    def measure(count: int, temperature: float, top_p: float) -> tuple[list[Check], Completions]:
        """The checks of `count` completions of each problem, problem by problem, and the completions."""
        found = complete(sampler, prompts, count, root, limit, temperature, top_p)
        return checked(found, settings, problems, tokenizer), found

    greedy, found = measure(1, temperature=0.0, top_p=1.0)
    truncated, flops = found.truncated_fraction, found.flops
    frame = pd.DataFrame(
        {
            "problem": [problem.key for problem in problems],
            "wrong": np.array([check.reward != 1.0 for check in greedy], np.int8),
            "error_kind": [check.error_kind for check in greedy],
        }
    )
    written = pd.DataFrame({"problem": frame["problem"], "tokens": found.tokens})
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
        sampled, found = measure(num_samples, evaluation.temperature, evaluation.top_p)
        flops += found.flops
        rewards = np.array([check.reward for check in sampled]).reshape(len(problems), num_samples)
        frame["num_correct"] = rewards.sum(axis=1).astype(int)
        frame["num_samples"] = num_samples
        for k in evaluation.pass_at:
            numbers[f"pass_at_{k}"] = float(np.mean([best_of_k(c, num_samples, k) for c in frame["num_correct"]]))
        if evaluation.describe:
            numbers |= describe(settings, sampled, num_samples, config.get("web_seed"))
    frame.to_parquet(out / "outcomes.parquet")
    written.to_parquet(out / "completions.parquet")
    return {**numbers, "evaluation_flops": flops, **sampler.numbers()}


def describe(
    settings: Problems, checks: Sequence[Check], num_samples: int, base_seed: int | None = None
) -> dict[str, float]:
    """Describe the completions of a policy, right or wrong; num_samples of each problem, problem by problem.

    A number without a denominator, such as the spurious share among no right completions, is absent. Self-training on
    positives may amplify errors of the base policy (Setlur et al. 2024, arXiv 2406.14532: spurious steps).

    base_seed: the seed of the base policy's web text, if it had one; its fixed wrong values are the misconceptions.
    """
    right = [check for check in checks if check.reward == 1.0]
    different = _different_right(checks, num_samples)
    numbers = {"diversity": float(np.mean(different))}
    if right:
        numbers["distinct_fraction"] = sum(different) / len(right)
    if any(step.correct is None for check in checks for step in check.steps):
        return numbers  # a family whose verifier does not judge steps
    if right:
        numbers["spurious_fraction"] = float(np.mean([bool(check.spurious_steps) for check in right]))
    num_wrong = sum(check.num_wrong_facts or 0 for check in checks)
    num_steps = sum(len(check.steps) for check in checks)
    numbers["wrong_fact_fraction"] = num_wrong / num_steps
    if unneeded := sum(not step.needed for check in checks for step in check.steps):
        numbers["unneeded_fraction"] = unneeded / num_steps  # absent without any, as of families that have none
    if base_seed is None or isinstance(settings, TextProblems):
        return numbers
    family = family_of(settings)
    facts = family.web_facts(settings, base_seed)
    if facts is not None and num_wrong:
        own = sum(family.misconceptions(settings, facts, check) for check in checks)
        numbers["misconception_fraction"] = own / num_wrong
    return numbers


def _different_right(checks: Sequence[Check], num_samples: int) -> list[int]:
    """How many different right completions each problem has among its samples."""
    found = []
    for start in range(0, len(checks), num_samples):
        right = [check for check in checks[start : start + num_samples] if check.reward == 1.0]
        found.append(len({" ".join(step.text for step in check.steps) for check in right}))
    return found
