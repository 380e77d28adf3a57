"""A problem's right solutions: its different correct rollouts, and the teacher's solution where it verifies."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from data.problems.families import family_of
from data.records import Problem
from data.rollout_tables import Verified, different


def right_rollouts(verified: pd.DataFrame) -> dict[int, list[list[int]]]:
    """The different correct rollouts of each problem that has any, in order."""
    return {problem: different(tokens) for problem, tokens in rewarded(verified, ["problem"]).items()}


def positives_by_problem(
    verified: Verified, own: Mapping[int, list[list[int]]], with_teachers: bool = True
) -> list[list[list[int]]]:
    """For each problem its correct rollouts and the teacher's solution, unless that is wrong or one of them."""
    family = family_of(verified.problems)

    def teachers(problem: Problem) -> list[list[int]]:
        assert problem.solution is not None  # those of D_syn have one
        right = with_teachers and family.check(verified.problems, problem, problem.solution).reward
        return [verified.tokenizer.encode_completion(problem.solution)] if right else []

    return [different([*own.get(index, []), *teachers(problem)]) for index, problem in enumerate(verified.synthetic)]


def rewarded(table: pd.DataFrame, by: list[str]) -> dict[Any, list[list[int]]]:
    """The tokens of rewarded rows, by key."""
    right = table[table["reward"] == 1.0]
    keys = right[by[0]] if len(by) == 1 else list(right[by].itertuples(index=False, name=None))
    found: dict[Any, list[list[int]]] = {}
    for key, tokens in zip(keys, right["tokens"], strict=True):
        found.setdefault(key, []).append(list(map(int, tokens)))
    return found
