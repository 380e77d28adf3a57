"""What a sweep file may say: the schema with every default, in frozen pydantic models.

In: plain mappings (scaling.sweep_file reads them from YAML). Out: `Sweep`, and `Cell`, the configuration of one
point of its grid. Its sections with their defaults are in `problem_config`, `policy_config`, `memory_config`,
`data_config`, `training_config` and `resource_config`; docs/sweeps.md explains every key.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.data_config import Evaluation, Rollouts, StepValues, Teacher
from scaling.memory_config import Memory
from scaling.policy_config import Policy
from scaling.problem_config import ModularSum, Problems
from scaling.resource_config import Resources
from scaling.section import Count, Section, Seed, Seeds
from scaling.training_config import Dpo, Pretrain, Rft, Sft, StepDpo, StepRft

ALGORITHMS = ("sft", "rft", "dpo", "step_dpo", "step_rft")
Algorithm = Literal["sft", "rft", "dpo", "step_dpo", "step_rft"]


class Cell(Section):
    """Everything that decides one run's result, apart from its seed."""

    algorithm: Algorithm = "sft"
    data_size: Count = 256  # unique synthetic problems
    problems: Problems = ModularSum()
    policy: Policy = Policy()
    pretrain: Pretrain = Pretrain()
    teacher: Teacher = Teacher()
    sft: Sft = Sft()
    rollouts: Rollouts = Rollouts()
    rft: Rft = Rft()
    dpo: Dpo = Dpo()
    step_values: StepValues = StepValues()
    step_dpo: StepDpo = StepDpo()
    step_rft: StepRft = StepRft()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _steps_have_words(self) -> "Cell":
        if self.policy.hf is not None and self.algorithm in ("step_dpo", "step_rft"):
            raise ValueError(
                f"algorithm is {self.algorithm!r} and policy.hf {self.policy.hf!r}; steps are cut at words of the"
                " family's own vocabulary: use sft, rft or dpo, or an embedded policy."
            )
        return self


class Analysis(Section):
    """The claims to test and how the intervals are made."""

    reference: Algorithm = "sft"
    claims: Mapping[str, float | str] = {}  # algorithm -> a multiplier, or "<=x"
    bootstrap_draws: Annotated[int, Field(ge=200, le=100_000)] = 2000
    seed: Seed = 0


class Select(Section):
    """Settings to choose on validation problems: for each algorithm, candidate values of its section's keys."""

    seeds: Seeds
    sft: Mapping[str, list[object]] = {}
    rft: Mapping[str, list[object]] = {}
    dpo: Mapping[str, list[object]] = {}
    step_dpo: Mapping[str, list[object]] = {}
    step_rft: Mapping[str, list[object]] = {}

    def candidates_of(self, algorithm: str) -> Mapping[str, list[object]]:
        """Key of the algorithm's section -> its candidate values."""
        return getattr(self, algorithm)


class Sweep(Section):
    """One sweep file: the question, what is fixed, the axes, and how to analyse and run it."""

    question: str
    expectation: str | None = None
    fixed: Mapping[str, object] = {}  # the Cell's sections as the file gives them
    grid: tuple[Mapping[str, tuple[object, ...]], ...]  # each maps a dotted key to its values; their union runs
    seeds: Seeds
    select: Select | None = None
    analysis: Analysis = Analysis()
    resources: Resources = Resources()
    memory: Memory = Memory()
    store: Annotated[str, Field(min_length=1)] = "results/store"
