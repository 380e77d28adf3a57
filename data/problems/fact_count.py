"""Modular sums by counting facts: the error of SFT, and the most that any learner of the same problems could save.

In: the settings of the problems, data sizes, and the seed of the base policy's text. Out: errors, and multipliers by
size. A sum counts as known when a solution showed it, or when the base policy's text has it right more often than not;
a test problem is wrong when its solution needs an unknown one. A solution shows three of the sums of a problem with
four operands; all orders of its steps together show twelve. So a learner of all of them is the ceiling for algorithms
that learn the sums of their problems and no rule: it takes a + b and b + a for two facts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from data.problems.modular_sum import operand_log_weights, web_facts
from scaling.config.problems import ModularSum

_NUM_STREAMS = 20  # of test and training problems
_BATCH, _FEWEST_NEW = 4096, 20  # problems drawn at once; with fewer new ones among them no more are sought
_MOST_OPERANDS = 6  # whose orders are counted: there are (operands - 1)! of them
_REACH = 8  # the largest multiplier looked for, a power of 2
FactNumbers = tuple[np.ndarray, np.ndarray, np.ndarray]  # int64 [N, F] each: numbers of facts, as a modulus + b


@lru_cache
def ceiling(problems: ModularSum, sizes: tuple[int, ...], seed: int = 0) -> Mapping[int, float]:
    """The most that a learner can be worth at data sizes, in the problems of a learner of one solution each.

    A size is absent where the count does not reach. All are, where the teacher's solutions have flaws: SFT then learns
    less than one solution shows.
    """
    if problems.flaw_rate > 0 or problems.operands > _MOST_OPERANDS:
        return {}
    return ceiling_of(lambda grid: count(problems, grid, seed), sizes, _REACH)


def ceiling_of(
    count: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]], sizes: Sequence[int], reach: int
) -> dict[int, float]:
    """The multipliers between a family's two counted errors at growing sizes, where they are not above reach.

    reach: a power of 2.
    """
    factors = [2**power for power in range(reach.bit_length())]
    grid = sorted({size * factor for size in sizes for factor in factors})
    one, every = count(grid)
    found = zip(grid, horizontal_distance(grid, one, every), strict=True)
    return {size: m for size, m in found if m is not None and size in sizes}


def count(problems: ModularSum, sizes: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Errors (float64 [len(sizes)]) of a learner of one solution a problem, and of one of all, mean over streams.

    sizes: growing.
    """
    modulus = problems.modulus
    in_text = (web_facts(problems, seed).confidence >= 0.5).ravel()

    def in_stream(rng: np.random.Generator) -> FactNumbers:
        test = _different(problems, rng, problems.num_test, set())
        needed = of_one_order(test, modulus, rng)
        shown = _different(problems, rng, max(sizes), set(map(tuple, test.tolist())))
        return needed, of_one_order(shown, modulus, rng), of_all_orders(shown, modulus)

    return errors_by_facts(in_text, sizes, in_stream, _NUM_STREAMS, seed)


def errors_by_facts(
    in_text: np.ndarray,
    sizes: Sequence[int],
    in_stream: Callable[[np.random.Generator], FactNumbers],
    num_streams: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (float64 [len(sizes)]) of those who know what the text has right and what their first problems show.

    in_text: bool, one for each fact; in_stream: the facts that each test problem needs, and those that each training
    problem shows to either learner, drawn anew.
    """
    errors = np.zeros((2, len(sizes)))
    for stream in range(num_streams):
        needed, *shown = in_stream(np.random.default_rng([seed, stream]))
        for row, facts in enumerate(shown):
            known = in_text.copy()
            for index, (first, last) in enumerate(zip((0, *sizes), sizes, strict=False)):
                known[facts[first:last]] = True
                errors[row, index] += (~known[needed]).any(axis=1).mean() / num_streams
    return errors[0], errors[1]


def horizontal_distance(sizes: Sequence[int], one: np.ndarray, every: np.ndarray) -> list[float | None]:
    """How many times more problems the first learner needs for the second's error; None beyond its largest size."""
    one = np.minimum.accumulate(one)
    falls = np.r_[True, np.diff(one) < 0]
    reached = np.exp(np.interp(-every, -one[falls], np.log(np.asarray(sizes)[falls]))) / np.asarray(sizes)
    return [float(m) if error >= one.min() else None for m, error in zip(reached, every, strict=True)]


def of_one_order(numbers: np.ndarray, modulus: int, rng: np.random.Generator) -> np.ndarray:
    """int [N, operands - 1], the pairs that one solution of each problem [N, operands] adds, as a modulus + b."""
    left, facts = numbers, []
    while left.shape[1] > 1:
        at = rng.integers(left.shape[1] - 1, size=len(left))[:, None]
        a, b = (np.take_along_axis(left, at + more, axis=1) for more in (0, 1))
        facts.append(a * modulus + b)
        places = np.arange(left.shape[1])
        kept = left[(places != at) & (places != at + 1)].reshape(len(left), -1)
        left = np.concatenate([(a + b) % modulus, kept], axis=1)
    return np.concatenate(facts, axis=1)


def of_all_orders(numbers: np.ndarray, modulus: int) -> np.ndarray:
    """int [N, F], the pairs that some solution of each problem adds; a pair may occur several times."""
    facts = []
    for at in range(numbers.shape[1] - 1):
        a, b = numbers[:, at : at + 1], numbers[:, at + 1 : at + 2]
        rest = np.concatenate([(a + b) % modulus, numbers[:, :at], numbers[:, at + 2 :]], axis=1)
        facts += [a * modulus + b, of_all_orders(rest, modulus)]
    return np.concatenate(facts, axis=1) if facts else np.zeros((len(numbers), 0), int)


def _different(problems: ModularSum, rng: np.random.Generator, number: int, taken: set[tuple[int, ...]]) -> np.ndarray:
    """int [number, operands], operands of different problems as they are drawn, none of those taken; fewer if rare."""
    log_weights, found = operand_log_weights(problems.modulus, problems.zipf_exponent), dict[tuple[int, ...], None]()
    before = -_BATCH
    while len(found) < number and len(found) - before >= _FEWEST_NEW:
        before = len(found)
        noise = rng.gumbel(size=(_BATCH, problems.modulus))
        drawn = np.argsort(-(log_weights + noise), axis=1)[:, : problems.operands]
        found |= dict.fromkeys(one for one in map(tuple, drawn.tolist()) if one not in taken)
    return np.array(list(found)[:number])
