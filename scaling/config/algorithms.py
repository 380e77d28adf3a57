"""The record of an algorithm: its settings with defaults, its recipe, its ancestors in selection, its label.

Out: `algorithm_of(name)`. The schema of a sweep file, its axes, selection, tables and figures follow from these
records. A module from outside the repository registers its own (docs/plugins.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scaling.config.section import Section
from scaling.config.training import Awr, Dpo, Kto, KtoByStep, Rft, Sft, StepDpo, StepRft
from scaling.kinds import Function


@dataclass(frozen=True)
class Algorithm:
    """A way to train a policy on the data of a study."""

    name: str  # in sweep files and tables
    settings: type[Section]  # its section of a sweep file, with every default
    recipe: Function  # (cell, seed) -> the stage that trains the policy
    label: str  # in figures and reports
    ancestors: tuple[str, ...] = ("sft",)  # algorithms whose chosen settings its recipe uses, first ones first


_RECIPES = "scaling.planning.recipes"
BUILT_IN: Mapping[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("sft", Sft, f"{_RECIPES}:sft_policy", "SFT", ancestors=()),
        Algorithm("rft", Rft, f"{_RECIPES}:rft_policy", "RFT"),
        Algorithm("dpo", Dpo, f"{_RECIPES}:dpo_policy", "DPO"),
        Algorithm("step_dpo", StepDpo, f"{_RECIPES}:step_dpo_policy", "Per-step DPO"),
        Algorithm("step_rft", StepRft, f"{_RECIPES}:step_rft_policy", "Step RFT"),
        Algorithm("awr", Awr, f"{_RECIPES}:awr_policy", "AWR"),
        Algorithm("kto", Kto, f"{_RECIPES}:kto_policy", "KTO"),
        Algorithm("kto_by_step", KtoByStep, f"{_RECIPES}:kto_by_step_policy", "KTO by step"),
    )
}
_ALGORITHMS: dict[str, Algorithm] = dict(BUILT_IN)


def algorithm_of(name: str) -> Algorithm:
    """The record of an algorithm. Raises ValueError for an unknown name."""
    if name not in _ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}; known algorithms: {', '.join(_ALGORITHMS)}.")
    return _ALGORITHMS[name]


def algorithms() -> tuple[Algorithm, ...]:
    """Every known algorithm, the built-in ones first."""
    return tuple(_ALGORITHMS.values())


def algorithm_names() -> tuple[str, ...]:
    return tuple(_ALGORITHMS)


def register_algorithm(algorithm: Algorithm) -> Algorithm:
    """Register an algorithm from outside. Raises ValueError if its name is taken, or an ancestor is unknown."""
    for name in algorithm.ancestors:
        algorithm_of(name)
    if _ALGORITHMS.setdefault(algorithm.name, algorithm) != algorithm:
        owner = "built in" if algorithm.name in BUILT_IN else "already registered, with another record"
        raise ValueError(f"the algorithm {algorithm.name!r} is {owner}; give yours another name.")
    return algorithm
