"""Ledgers by counting facts: the error of SFT, and the most that any learner of the same problems could save.

In: the settings of the problems, data sizes, and the seed of the base policy's text. Out: errors, and multipliers by
size, as `data.problems.fact_count` has them for modular sums; a + b and b + a are one fact here. A solution shows one
fact for each term of a needed sum but its first. All orders together add every term to the sum of every set of the
others, so that a sum of k terms has k 2^(k-1) - k (k + 1) / 2 facts: 22 of four terms, 65 of five. A problem's own
sums that are not needed can be learned from too, though no answer depends on them.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from data.problems.fact_count import FactNumbers, ceiling_of, errors_by_facts
from data.problems.ledger import web_facts
from scaling.config.problems import Ledger

_NUM_STREAMS = 10  # of test and training problems
_REACH = 16  # the largest multiplier looked for, a power of 2
Sums = list[np.ndarray]  # int64 [N, terms] each: the numbers that each sum of N problems adds


@lru_cache
def ceiling(problems: Ledger, sizes: tuple[int, ...], seed: int = 0) -> Mapping[int, float]:
    """The most that a learner can be worth at data sizes, in the problems of a learner of one solution each.

    A size is absent where the count does not reach. All are, where the teacher's solutions have flaws or unneeded
    steps: SFT then learns less, or more, than one solution of the needed steps shows.
    """
    if problems.flaw_rate > 0 or problems.unneeded_rate > 0:
        return {}
    return ceiling_of(lambda grid: count(problems, grid, seed), sizes, _REACH)


def count(problems: Ledger, sizes: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Errors (float64 [len(sizes)]) of a learner of one solution a problem, and of one of all, mean over streams.

    sizes: growing.
    """
    modulus = problems.modulus
    in_text = (web_facts(problems, seed).confidence >= 0.5).ravel()

    def in_stream(rng: np.random.Generator) -> FactNumbers:
        needed = of_one_order(drawn(problems, problems.num_test, rng)[0], modulus, rng)
        own, aside = drawn(problems, max(sizes), rng)
        return needed, of_one_order(own, modulus, rng), of_all_orders([*own, *aside], modulus)

    return errors_by_facts(in_text, sizes, in_stream, _NUM_STREAMS, seed)


def drawn(problems: Ledger, number: int, rng: np.random.Generator) -> tuple[Sums, Sums]:
    """The needed sums, each after the one among its terms, and the others, of so many problems."""
    numbers = rng.integers(problems.modulus, size=(number, problems.known))
    needed: Sums = []
    for terms in reversed(problems.needed):
        below = [needed[-1].sum(axis=1, keepdims=True) % problems.modulus] if needed else []
        needed.append(np.concatenate([rng.permuted(numbers, axis=1)[:, : terms - len(below)], *below], axis=1))
    return needed, [rng.permuted(numbers, axis=1)[:, :terms] for terms in problems.unneeded]


def of_one_order(sums: Sums, modulus: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [N, F], the pairs that one solution of each problem adds, as modulus x the smaller + the larger."""
    facts = []
    for terms in sums:
        terms = rng.permuted(terms, axis=1)
        totals = terms.cumsum(axis=1) % modulus
        facts.append(_pairs(totals[:, :-1], terms[:, 1:], modulus))
    return np.concatenate(facts, axis=1)


def of_all_orders(sums: Sums, modulus: int) -> np.ndarray:
    """int64 [N, F], the pairs that some solution of each problem adds; a pair may occur several times."""
    facts = []
    for terms in sums:
        for chosen in range(1, 2 ** terms.shape[1] - 1):
            inside = (chosen >> np.arange(terms.shape[1])) & 1 == 1
            total = terms[:, inside].sum(axis=1, keepdims=True) % modulus
            facts.append(_pairs(total, terms[:, ~inside], modulus))
    return np.concatenate(facts, axis=1)


def _pairs(a: np.ndarray, b: np.ndarray, modulus: int) -> np.ndarray:
    return np.asarray(np.minimum(a, b) * modulus + np.maximum(a, b))
