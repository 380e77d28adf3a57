"""Modular sums: add numbers modulo p, two at a time; the facts are the sums of two numbers.

A prompt is `x1 x2 x3 x4 ?`. A step takes two neighbours a, b of the current list, writes `a b = c r1 r2 ;` with
their sum c and then what is left, in order; the new list is c r1 r2. The last step repeats the only number: `# c`.
Sums are associative and commute, so every order of steps is right: many correct solutions a problem.

Operands of a problem differ from each other, so that copying them is unambiguous, and follow a Zipf law. The base
policy's web text has uniform operands and states fact (a, b) correctly with probability c_ab, drawn once from a Beta
law, and otherwise as one fixed wrong value: graded misconceptions about facts, none about the procedure.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.special import entr

from data.records import Check, Problem, StepCheck
from scaling.config.problems import ModularSum

_RANKS = 0x21FF  # seeds the fixed order of operands by frequency
_FACTS = 0xFAC75
_FLAWS = 0xF1A35  # seeds the teacher's fixed wrong sums
_ORDERS = 64  # orders of steps to try, in search of two sums that cancel


@dataclass(frozen=True)
class Facts:
    """What the web text says of each ordered pair.

    Each part is drawn when it is asked for, since evaluation needs the wrong values without `web_confidence`, which
    they do not depend on and which its config does not have.
    """

    config: ModularSum
    seed: int

    @cached_property
    def wrong(self) -> np.ndarray:
        """int64 [p, p], the value that is stated where the sum is not right."""
        return self._drawn()[1]

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 [p, p], chance that the stated sum is right."""
        rng, wrong = self._drawn()
        return rng.beta(*self.config.web_confidence, wrong.shape)

    def _drawn(self) -> tuple[np.random.Generator, np.ndarray]:
        modulus = self.config.modulus
        rng, values = np.random.default_rng([_FACTS, modulus, self.seed]), np.arange(modulus)
        right = (values[:, None] + values[None, :]) % modulus
        return rng, (right + rng.integers(1, modulus, (modulus, modulus))) % modulus


def vocabulary(config: ModularSum) -> tuple[str, ...]:
    """The family's words."""
    return ("?", "=", ";", "#", *(str(value) for value in range(config.modulus)))


def step_separator(config: ModularSum) -> str:
    """The word that ends a step."""
    return ";"


def max_prompt_words(config: ModularSum) -> int:
    return config.operands + 1


def max_completion_words(config: ModularSum) -> int:
    """A step over n numbers takes n + 3 words, its separator included; the last line takes two."""
    return sum(length + 3 for length in range(2, config.operands + 1)) + 2


def max_steps(config: ModularSum) -> int:
    """One sum fewer than operands, and the answer."""
    return config.operands


def num_distinct(config: ModularSum) -> int:
    """Number of different problems."""
    return math.perm(config.modulus, config.operands)


def draw(config: ModularSum, rng: np.random.Generator) -> Problem:
    """One problem, operands by Zipf weight without replacement."""
    log_weights = operand_log_weights(config.modulus, config.zipf_exponent)
    # Adding Gumbel noise to log-weights and taking the largest draws without replacement, in order.
    order = np.argsort(-(log_weights + rng.gumbel(size=config.modulus)))[: config.operands]
    return _problem([int(value) for value in order], config.modulus)


def log_probability(config: ModularSum, problem: Problem) -> float:
    """Natural logarithm of the chance that `draw` gives this problem."""
    log_weights = operand_log_weights(config.modulus, config.zipf_exponent)
    left, total = log_weights.copy(), 0.0
    for value in _operands(problem):
        total += float(log_weights[value] - np.logaddexp.reduce(left))
        left[value] = -np.inf
    return total


def solve(config: ModularSum, problem: Problem, rng: np.random.Generator) -> str:
    """The teacher's solution in a random order; with probability flaw_rate two of its sums are wrong and cancel."""
    numbers = _operands(problem)
    if config.flaw_rate > 0.0 and len(numbers) < 3:
        raise ValueError(
            f"problems.flaw_rate is {config.flaw_rate}, but with operands = {config.operands} a solution has one sum"
            " and nothing to cancel a wrong one; use at least 3 operands or flaw_rate: 0."
        )
    offsets = [0] * (len(numbers) - 1)
    if rng.random() < config.flaw_rate:
        if config.flaws == "systematic":
            return _with_systematic_flaws(config, numbers, rng)
        first, second = sorted(rng.choice(len(offsets), 2, replace=False))
        offsets[first] = int(rng.integers(1, config.modulus))
        offsets[second] = -offsets[first]
    offset = iter(offsets)
    return _trace(numbers, rng, lambda a, b: (a + b + next(offset)) % config.modulus)


@cache
def teacher_offsets(modulus: int) -> np.ndarray:
    """int64 [p, p]: how far systematic flaws are off the sum of each pair, +d or -d with one d for all pairs."""
    rng = np.random.default_rng([_FLAWS, modulus])
    offsets = int(rng.integers(1, (modulus + 1) // 2)) * rng.choice([-1, 1], (modulus, modulus))
    offsets.flags.writeable = False  # every caller gets this one array
    return offsets


def _with_systematic_flaws(config: ModularSum, numbers: list[int], rng: np.random.Generator) -> str:
    """A solution with one sum off by +d and one by -d, each as `teacher_offsets` has it for its pair.

    Orders of steps are drawn until two sums cancel; in the rare case that none of many has two, no sum is wrong.
    """
    offsets = teacher_offsets(config.modulus)
    for _ in range(_ORDERS):
        used: list[int] = []
        trace = _trace(numbers, rng, _misstating(offsets, rng.choice(len(numbers) - 1, 2, replace=False), used))
        if sum(used) == 0:
            return trace
    return _trace(numbers, rng, lambda a, b: (a + b) % config.modulus)


def _misstating(offsets: np.ndarray, flawed: np.ndarray, used: list[int]) -> Callable[[int, int], int]:
    """A way to state sums that is wrong at the steps `flawed`; it appends the offset of every step to `used`."""

    def stated(a: int, b: int) -> int:
        used.append(int(offsets[a, b]) if len(used) in flawed else 0)
        return (a + b + used[-1]) % len(offsets)

    return stated


def web_facts(config: ModularSum, seed: int) -> Facts:
    """The misconceptions, made once for a base policy."""
    return Facts(config, seed)


def web_text(config: ModularSum, rng: np.random.Generator, facts: Facts) -> tuple[str, str]:
    """A prompt and a completion of the base policy's training text."""
    numbers = rng.permutation(config.modulus)[: config.operands].tolist()

    def stated(a: int, b: int) -> int:
        right = rng.random() < facts.confidence[a, b]
        return (a + b) % config.modulus if right else int(facts.wrong[a, b])

    return _problem(numbers, config.modulus).prompt, _trace(numbers, rng, stated)


def web_entropy(config: ModularSum, facts: Facts) -> float:
    """Nats of a completion of the web text given its prompt: which two neighbours, and how each sum is stated.

    Later steps add sums, which are taken to be uniform: the operands of a prompt differ, so that is off by a part in
    the modulus.
    """
    orders = math.lgamma(config.operands)  # of (operands - 1)! choices of neighbours
    of_pair = entr(facts.confidence) + entr(1 - facts.confidence)
    first = of_pair[~np.eye(config.modulus, dtype=bool)].mean()
    return orders + float(first + (config.operands - 2) * of_pair.mean())


def answer(config: ModularSum, completion: str) -> str | None:
    """c, when the last step is exactly `# c` with c a number below the modulus; else None."""
    last = _steps(config, completion)[-1]
    return last[1] if len(last) == 2 and last[0] == "#" and last[1] in _numbers(config.modulus) else None


def check(config: ModularSum, problem: Problem, completion: str) -> Check:
    """Verdict on any string. Steps are judged against the list as the completion itself states it.

    So a wrong sum is wrong where it is written and not again where it is used. A step without the form of a step
    is an error of procedure and leaves the list as it was.
    """
    current = _operands(problem)
    steps = _steps(config, completion)
    verdicts = []
    for index, words in enumerate(steps):
        if words[:1] == ["#"]:
            repeats = len(current) == 1 and words == ["#", str(current[0])]
            procedure_ok, fact_ok = repeats and index == len(steps) - 1, True
        else:
            procedure_ok, fact_ok, current = _check_sum(config, current, words)
        verdicts.append(StepCheck(" ".join(words), procedure_ok, fact_ok))
    given = answer(config, completion)
    return Check(float(given == problem.answer), given, tuple(verdicts))


def misconceptions(config: ModularSum, facts: Facts, check: Check) -> int:
    """How many wrong facts of a completion are those of the web text: the same pair, the same wrong value."""
    stated = [step.text.split() for step in check.steps if not step.fact_ok]
    return sum(int(facts.wrong[int(a), int(b)]) == int(c) for a, b, _, c, *_ in stated)


def _check_sum(config: ModularSum, current: list[int], words: list[str]) -> tuple[bool, bool, list[int]]:
    """(procedure_ok, fact_ok, the list from here on) of one step `a b = c rest ;`."""
    numbers = _numbers(config.modulus)
    stated = [numbers.get(word, -1) for word in (*words[:2], *words[3:-1])]
    if len(stated) < 3 or -1 in stated or words[2] != "=" or words[-1] != step_separator(config):
        return False, True, current
    a, b, c, *rest = stated
    allowed = any(
        current[i : i + 2] == [a, b] and current[:i] + current[i + 2 :] == rest for i in range(len(current) - 1)
    )
    return allowed, c == (a + b) % config.modulus, [c, *rest]


def _steps(config: ModularSum, completion: str) -> list[list[str]]:
    """The words of each step, separators included; at least one step, as in data.tokens.steps."""
    steps: list[list[str]] = [[]]
    for word in completion.split():
        if steps[-1][-1:] == [step_separator(config)]:
            steps.append([])
        steps[-1].append(word)
    return steps


def _operands(problem: Problem) -> list[int]:
    return [int(word) for word in problem.prompt.split()[:-1]]


def _problem(numbers: list[int], modulus: int) -> Problem:
    return Problem(" ".join(map(str, numbers)) + " ?", str(sum(numbers) % modulus))


def _trace(numbers: list[int], rng: np.random.Generator, add: Callable[[int, int], int]) -> str:
    """Steps in a random order, each sum as `add(a, b)` states it."""
    lines = []
    while len(numbers) > 1:
        at = int(rng.integers(len(numbers) - 1))
        first, second = numbers[at : at + 2]
        numbers = [add(first, second), *numbers[:at], *numbers[at + 2 :]]
        lines.append(f"{first} {second} = {' '.join(map(str, numbers))}")
    return " ; ".join([*lines, f"# {numbers[0]}"])


@cache
def _numbers(modulus: int) -> dict[str, int]:
    """Numbers as words, without leading zeros: `007` is not one."""
    return {str(value): value for value in range(modulus)}


@cache
def operand_log_weights(modulus: int, exponent: float) -> np.ndarray:
    """float64 [p], not normalised: -exponent log rank, ranks in a fixed random order of the operands."""
    ranks = np.random.default_rng([_RANKS, modulus]).permutation(modulus) + 1
    log_weights = -exponent * np.log(ranks)
    log_weights.flags.writeable = False  # every caller gets this one array
    return log_weights
