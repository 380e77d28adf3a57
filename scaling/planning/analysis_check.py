"""Whether the section `analysis` of a sweep file speaks of what its grid runs: the claims and the reference.

In: a sweep. Out: nothing, or a ConfigError that names the key, its value and the cure.
"""

import math
import re
from pathlib import Path

from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError, did_you_mean
from scaling.config.sweep import Sweep
from scaling.planning.grid import cells


def check_analysis(sweep: Sweep, path: Path) -> None:
    """Reject malformed claims, and claims and references that no cell runs. path: of the sweep, for messages."""
    run = {cell.algorithm for cell in cells(sweep)}
    there = ", ".join(name for name in algorithm_names() if name in run)
    for algorithm, claim in sweep.analysis.claims.items():
        where = f"{path}: analysis.claims.{algorithm}"
        if algorithm not in algorithm_names():
            raise ConfigError(f"{where}: there is no such algorithm.{did_you_mean(algorithm, algorithm_names())}")
        if isinstance(claim, str) and not re.fullmatch(r"<=\s*\d+(\.\d+)?", claim):
            raise ConfigError(f'{where} is {claim!r}; a claim is a multiplier such as 2, or "<=1".')
        if not isinstance(claim, str) and not 0 < claim < math.inf:
            raise ConfigError(f"{where} is {claim}; a multiplier is positive and finite.")
        if algorithm not in run:
            raise ConfigError(
                f"{where} claims {claim} for an algorithm that no cell of the grid runs; the grid runs {there}: take"
                " the claim out of analysis.claims, or the algorithm into grid.algorithm."
            )
    for place, pair in enumerate(sweep.analysis.compare):
        names = [name.partition(",")[0] for name in pair]
        for name in names:
            if name not in run:
                hint = did_you_mean(name, sorted(run)) if name not in algorithm_names() else ""
                raise ConfigError(
                    f"{path}: analysis.compare[{place}] names {name!r}, which no cell of the grid runs; the grid runs"
                    f" {there}.{hint}"
                )
        if pair[0] == pair[1]:
            raise ConfigError(
                f"{path}: analysis.compare[{place}] names {pair[0]!r} twice; a pair is two different algorithms."
            )
    if len(run) > 1 and sweep.analysis.reference not in run:
        raise ConfigError(
            f"{path}: analysis.reference is {sweep.analysis.reference!r}, which the grid does not run ({there});"
            " multipliers need the reference's curve."
        )
