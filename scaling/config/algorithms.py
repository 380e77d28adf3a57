"""The record of an algorithm: its settings with defaults, its recipe, its ancestors in selection, its label.

Out: `algorithm_of(name)`. The schema of a sweep file, its axes, selection, tables and figures follow from these
records. A module from outside the repository registers its own (docs/plugins.md).
"""

from dataclasses import dataclass

from scaling.config.on_policy import Distill, GroupPg, StepPg
from scaling.config.section import Section
from scaling.config.training import Awr, Dpo, FilteredSft, Kto, KtoByStep, Rft, Sft, StepDpo, StepRft
from scaling.kinds import Function
from scaling.registry import Registry


@dataclass(frozen=True)
class Algorithm:
    """A way to train a policy on the data of a study."""

    name: str  # in sweep files and tables
    settings: type[Section]  # its section of a sweep file, with every default
    recipe: Function  # (cell, seed) -> the stage that trains the policy
    label: str  # in figures and reports
    ancestors: tuple[str, ...] = ("sft",)  # algorithms whose chosen settings its recipe uses, first ones first


_RECIPES = "scaling.planning.recipes"
_REGISTRY = Registry(
    "algorithm",
    (
        Algorithm("sft", Sft, f"{_RECIPES}:sft_policy", "SFT", ancestors=()),
        Algorithm("rft", Rft, f"{_RECIPES}:rft_policy", "RFT"),
        Algorithm("dpo", Dpo, f"{_RECIPES}:dpo_policy", "DPO"),
        Algorithm("step_dpo", StepDpo, f"{_RECIPES}:step_dpo_policy", "Per-step DPO"),
        Algorithm("step_rft", StepRft, f"{_RECIPES}:step_rft_policy", "Step RFT"),
        Algorithm("awr", Awr, f"{_RECIPES}:awr_policy", "AWR"),
        Algorithm("kto", Kto, f"{_RECIPES}:kto_policy", "KTO"),
        Algorithm("kto_by_step", KtoByStep, f"{_RECIPES}:kto_by_step_policy", "KTO by step"),
        Algorithm("group_pg", GroupPg, f"{_RECIPES}:group_pg_policy", "Group policy gradient"),
        Algorithm("step_pg", StepPg, f"{_RECIPES}:step_pg_policy", "Step policy gradient"),
        Algorithm("distill", Distill, f"{_RECIPES}:distill_policy", "Distillation (oracle)"),
        Algorithm("filtered_sft", FilteredSft, f"{_RECIPES}:filtered_sft_policy", "SFT, filtered"),
    ),
)
algorithm_of, algorithms, algorithm_names = _REGISTRY.of, _REGISTRY.every, _REGISTRY.names


def register_algorithm(algorithm: Algorithm) -> Algorithm:
    """Register an algorithm from outside. Raises ValueError if its name is taken, or an ancestor is unknown."""
    for name in algorithm.ancestors:
        algorithm_of(name)
    return _REGISTRY.register(algorithm)
