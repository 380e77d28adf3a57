"""Running parity as a problem family: after each bit, whether the ones so far are odd in number.

A prompt is `1 0 1 1 =`, its solution `1 1 0 1`: every word is a step, and the last word is the answer. In the base
policy's text a step is right with a chance of nine tenths.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from data.records import Check, Problem, StepCheck
from scaling.config.problems import DrawnProblems, ProblemFamily, register_family

RIGHT = 0.9  # chance of a right step in the base policy's text


class Parity(DrawnProblems):
    """The section `problems` of a sweep file; num_validation and num_test come with DrawnProblems."""

    family: Literal["parity"] = "parity"
    length: Annotated[int, Field(ge=4, le=64)] = 12  # bits of a problem


def vocabulary(config: Parity) -> tuple[str, ...]:
    return ("0", "1", "=")


def step_separator(config: Parity) -> None:
    """No separator: every word of a completion is a step."""
    return None


def max_prompt_words(config: Parity) -> int:
    return config.length + 1


def max_completion_words(config: Parity) -> int:
    return config.length


def max_steps(config: Parity) -> int:
    return config.length


def num_distinct(config: Parity) -> int:
    return 2**config.length


def draw(config: Parity, rng: np.random.Generator) -> Problem:
    bits = rng.integers(0, 2, config.length)
    return Problem(f"{' '.join(map(str, bits))} =", str(bits.sum() % 2))


def log_probability(config: Parity, problem: Problem) -> float:
    return -config.length * math.log(2)


def solve(config: Parity, problem: Problem, rng: np.random.Generator) -> str:
    return " ".join(str(parity) for parity in np.cumsum(_bits(problem)) % 2)


def answer(config: Parity, completion: str) -> str | None:
    words = completion.split()
    return words[-1] if len(words) == config.length and {"0", "1"}.issuperset(words) else None


def check(config: Parity, problem: Problem, completion: str) -> Check:
    """A step is right when it adds its bit to what the step before it says."""
    bits, steps, before = _bits(problem), [], 0
    for index, word in enumerate(completion.split()):
        allowed = index < len(bits) and word in ("0", "1")
        steps.append(StepCheck(word, allowed, not allowed or int(word) == (before + bits[index]) % 2))
        before = int(word) if allowed else before
    given = answer(config, completion)
    return Check(float(given == problem.answer), given, tuple(steps) or (StepCheck("", False, True),))


def web_facts(config: Parity, seed: int) -> None:
    """Nothing: the base policy's text has no wrong fact that stays the same."""
    return None


def web_text(config: Parity, rng: np.random.Generator, facts: None) -> tuple[str, str]:
    problem = draw(config, rng)
    wrong = rng.random(config.length) >= RIGHT
    return problem.prompt, " ".join(str(parity) for parity in np.cumsum(_bits(problem) + wrong) % 2)


def web_entropy(config: Parity, facts: None) -> float:
    """Nats of a completion of that text given its prompt."""
    return -config.length * (RIGHT * math.log(RIGHT) + (1 - RIGHT) * math.log(1 - RIGHT))


def misconceptions(config: Parity, facts: None, check: Check) -> int:
    return 0


def _bits(problem: Problem) -> np.ndarray:
    return np.array([int(bit) for bit in problem.prompt.split()[:-1]])


register_family(ProblemFamily(Parity, __name__))
