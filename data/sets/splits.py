"""The split of problems into training, validation and test, and the streams they are drawn in.

In: a family's config and a seed. Out: problems. A problem's split follows from a hash of its content, so streams of
every seed are disjoint from the validation and test problems, and leaving those out does not distort the distribution:
each split keeps a random tenth, or eight tenths, of the problems. Streams are nested in their length.

Distinct problems get harder along a draw, since the likely ones come first. With `held_out_seed` the validation and
test problems are drawn together, shuffled and then divided, so that both follow one law and any part of either does:
the law of the first num_validation + num_test distinct held-out problems. Without it, as in sweeps from before the key,
each is the first of its own draw, and test problems are harder than validation problems where there are more of them.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from data.problems.families import family_of
from data.records import Problem
from data.sets.finite_splits import set_sizes, shuffled
from scaling.config.problems import DrawnProblems, Problems
from scaling.config.text_problems import TextProblems

Split = Literal["train", "validation", "test"]

TENTHS: Mapping[Split, int] = {"train": 8, "validation": 1, "test": 1}
_DOMAINS: Mapping[str, int] = {"train": 0x57A1, "validation": 0x57A2, "test": 0x57A3, "held_out": 0x57A5}  # generators
_POOL_SEED = 0x57A4
_POOL_DRAWS = 2048
_POOL_MASS = 0.9
_DRAWS_PER_PROBLEM = 1000  # the stream gives up beyond; within the pool it needs about ten, test a hundred


def split_of(problem_key: str) -> Split:
    """The split of a problem, from its key: eight tenths train, one validation, one test."""
    tenth = int(problem_key, 16) % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def held_out(config: DrawnProblems) -> dict[Split, list[Problem]]:
    """The validation and test problems: the same for all seeds of a sweep."""
    sizes: dict[Split, int] = {"validation": config.num_validation, "test": config.num_test}
    if config.held_out_seed is None:
        return {split: _distinct(config, (split,), [_DOMAINS[split], 0], count) for split, count in sizes.items()}
    key = [_DOMAINS["held_out"], config.held_out_seed]
    drawn = _distinct(config, tuple(sizes), key, sum(sizes.values()))
    mixed = shuffled(drawn, [*key, 1])
    return {"validation": mixed[: config.num_validation], "test": mixed[config.num_validation :]}


def stream(config: DrawnProblems, seed: int, count: int) -> list[Problem]:
    """The first `count` distinct training problems of a seed's stream."""
    return _distinct(config, ("train",), [_DOMAINS["train"], seed], count)


def pool_size(config: Problems, split: Split = "train") -> int:
    """How many distinct problems a split can offer before rejection takes too long.

    The rule: the split's share of the likeliest problems that together hold nine tenths of the drawing
    probability. Up to there about a tenth of the draws that fall into the split are new, whatever was drawn. Of a
    finite set it is the rows that a plan knows of; the most there can be where the hub alone knows.
    """
    if isinstance(config, TextProblems):
        return (set_sizes(config) or {}).get(split, 2**62)
    return int(math.exp(min(_log_likeliest(config) + math.log(TENTHS[split] / 10), math.log(2**62))))


@lru_cache
def _log_likeliest(config: DrawnProblems) -> float:
    """Natural logarithm of the number of likeliest problems that hold nine tenths of the drawing probability.

    Estimated from draws of a fixed generator, in log space: the sum of 1 / probability over the likeliest nine
    tenths of them, divided by the number of draws. It is exact for a uniform law.
    """
    family, rng = family_of(config), np.random.default_rng(_POOL_SEED)
    log_chances = sorted(family.log_probability(config, family.draw(config, rng)) for _ in range(_POOL_DRAWS))
    likeliest = np.array(log_chances[-int(_POOL_DRAWS * _POOL_MASS) :])
    estimate = float(np.logaddexp.reduce(-likeliest)) - math.log(_POOL_DRAWS)
    return min(estimate, math.log(family.num_distinct(config)))


def _distinct(config: DrawnProblems, splits: Sequence[Split], key: Sequence[int], count: int) -> list[Problem]:
    """The first `count` different problems of some splits, in the order in which the key's generator draws them."""
    pool, named = sum(pool_size(config, split) for split in splits), " and ".join(splits)
    if count > pool:
        raise ValueError(
            f"splits: {count} {named} problems were asked for, but {config.family} offers {pool} of them with these"
            f" settings ({family_of(config).num_distinct(config)} problems in all, few of them likely when the law is"
            " steep); ask for fewer, or enlarge the family (modulus, operands, num_nodes)."
        )
    draw, rng = family_of(config).draw, np.random.default_rng(np.random.SeedSequence(key))
    found: dict[str, Problem] = {}
    for _ in range(_DRAWS_PER_PROBLEM * (count + 10)):
        if len(found) == count:
            return list(found.values())
        problem = draw(config, rng)
        if split_of(problem.key) in splits:
            found.setdefault(problem.prompt, problem)
    raise ValueError(
        f"splits: {_DRAWS_PER_PROBLEM} draws a problem gave only {len(found)} of {count} different {named} problems of"
        f" {config.family}; its law is too steep for so many: ask for fewer, or lower problems.zipf_exponent."
    )
