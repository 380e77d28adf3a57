"""Keep the training problems that the base policy sometimes solves: pass@n above zero.

In: the imported set, the base policy and its tokenizer. Out: `solvable.jsonl`, one row a kept problem, and the counts
of tried and kept problems. The base policy decides, not the SFT policy, so the choice is the same for all sizes and
seeds of a study. Completions are keyed by (candidate, sample), with a seed that no run has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.problems.text_problems import prompt_of, step_texts
from data.records import Problem
from data.sampling.completions import SOLVABLE, checked, complete, root_key
from data.sampling.sampler import local_sampler
from data.sets.finite_splits import parts
from data.sets.problem_pool import write_kept
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.problems import ProblemsInLanguage, problems_in_language_of
from scaling.config.section import parse
from scaling.config.text_problems import Solvable
from scaling.model.policy import load_policy

_SEED = 0


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Try the candidates. config: problems, solvable; inputs: source, policy, tokenizer."""
    problems, settings = problems_in_language_of(config), parse(Solvable, config["solvable"])
    tokenizer = tokenizer_of(problems, inputs)
    pool = parts(problems, inputs["source"]).train
    tried = candidates(problems, settings, pool, settings.num_candidates)
    examples = candidates(problems, settings, pool, settings.num_candidates + settings.shots)[len(tried) :]
    if len(examples) < settings.shots:
        raise ValueError(
            f"solvable: problems.solvable.shots is {settings.shots}, but behind {len(tried)} candidates the set has"
            f" only {len(examples)} more training problems to show; lower num_candidates or shots."
        )
    prompts = [tokenizer.encode_prompt(prompt_after(problems, examples, problem)) for problem in tried]
    limit = completion_limit(problems, tokenizer, settings.max_new_tokens)
    root = root_key(_SEED, SOLVABLE)
    sampler = local_sampler(load_policy(inputs["policy"]))  # never a server
    found = complete(sampler, prompts, settings.samples, root, limit, settings.temperature, settings.top_p)
    checks = checked(found, problems, tried, tokenizer)
    num_correct = np.array([verdict.reward for verdict in checks]).reshape(len(tried), settings.samples).sum(axis=1)
    kept = [index for index, count in enumerate(num_correct) if count >= settings.min_correct]
    if not kept:
        raise ValueError(
            f"solvable: the base policy solves none of {len(tried)} training problems at least"
            f" {settings.min_correct} in {settings.samples} times, so nothing is left to learn from; raise"
            " problems.solvable.samples or num_candidates, check that problems.instruction asks for one of"
            f" answer_forms = {list(problems.answer_forms)}, or take a stronger policy."
        )
    steps = {index: num_steps(problems, tried[index]) for index in kept}
    rows = ({**vars(tried[at]), "num_steps": steps[at], "num_correct": int(num_correct[at])} for at in kept)
    write_kept(out, rows, settings.order, len(tried))
    return {
        "num_candidates": float(len(tried)),
        "num_solvable": float(len(kept)),
        "mean_reward": float(np.mean(num_correct) / settings.samples),
        "no_answer_fraction": float(np.mean([verdict.answer is None for verdict in checks])),
        "truncated_fraction": found.truncated_fraction,
        "num_generated_tokens": float(found.num_tokens),
        "generation_flops": found.flops,
    }


def candidates(config: ProblemsInLanguage, settings: Solvable, pool: tuple[Problem, ...], count: int) -> list[Problem]:
    """The training problems to try: in the pool's fixed order, or by the steps, then the length, of their solutions."""
    with_solution = [problem for problem in pool if problem.solution is not None]
    if not with_solution:
        raise ValueError("solvable: no training problem has a solution of its own to learn from; add solutions.")
    if settings.order == "fewest_steps":
        with_solution.sort(key=lambda problem: (num_steps(config, problem), len(problem.solution or "")))  # stable
    return with_solution[:count]


def prompt_after(config: ProblemsInLanguage, examples: list[Problem], problem: Problem) -> str:
    """A candidate's prompt; after examples, other training problems with their solutions."""
    if not examples:
        return problem.prompt
    suffix = prompt_of(config, "")
    shown = [f"Problem: {item.prompt.removesuffix(suffix)}\n{item.solution}" for item in examples]
    return "\n\n".join([*filter(None, [config.instruction]), *shown, f"Problem: {problem.prompt.removesuffix(suffix)}"])


def num_steps(config: ProblemsInLanguage, problem: Problem) -> int:
    """Steps of the set's own solution."""
    assert problem.solution is not None  # candidates have one
    return len(step_texts(config, problem.solution))
