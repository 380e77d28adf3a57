"""Where a stage's problems come from: a family's law, or the rows of an imported set.

In: the family's config, and a stage's inputs, among which a set's are: `source`, and `solvable` where the base policy
has chosen among its training problems. Out: the training problems of a seed, and the held-out problems.
"""

from collections.abc import Mapping
from pathlib import Path

from data.records import Problem
from data.sets.finite_splits import check_held_out, in_order_of, parts
from data.sets.solvable_set import kept_problems
from data.sets.splits import fixed_problems, stream
from scaling.config.problems import ModularSum, StarGraph
from scaling.config.text_problems import TextProblems


def training_problems(
    config: ModularSum | StarGraph | TextProblems, inputs: Mapping[str, Path], seed: int, count: int
) -> list[Problem]:
    """The first `count` training problems of a seed; nested in count."""
    if not isinstance(config, TextProblems):
        return stream(config, seed, count)
    if "solvable" in inputs:
        kept, tried = kept_problems(inputs["solvable"], seed)
        if count > len(kept):
            raise ValueError(
                f"data_size is {count}, but of {tried} training problems that were tried the base policy solves only"
                f" {len(kept)} often enough; lower data_size, or raise problems.solvable.num_candidates or samples."
            )
        return kept[:count]
    pool = parts(config, inputs["source"]).train
    if count > len(pool):
        raise ValueError(
            f"data_size is {count}, but the set has {len(pool)} training problems besides its validation problems;"
            " lower data_size."
        )
    return in_order_of(seed, pool)[:count]


def held_out_problems(
    config: ModularSum | StarGraph | TextProblems, inputs: Mapping[str, Path], split: str, count: int
) -> list[Problem]:
    """The first `count` validation or test problems: the same whatever the seeds of a sweep."""
    if not isinstance(config, TextProblems):
        return fixed_problems(config, split, count)
    found = parts(config, inputs["source"])
    problems = found.validation if split == "validation" else found.test
    check_held_out(split, count, len(problems))
    return list(problems[:count])
