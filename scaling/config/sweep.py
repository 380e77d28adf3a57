"""What a sweep file may say: the schema with every default, in frozen pydantic models.

In: plain mappings (scaling.planning.sweep_file reads them from YAML). Out: `Sweep`, and `Cell`, the configuration of
one point of its grid. Its sections with their defaults are in `problem_config`, `policy_config`, `teacher_config`,
`memory_config`, `data_config`, `training_config` and `resource_config`; docs/sweeps.md explains every key.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.config.memory import Memory
from scaling.config.policy import Policy
from scaling.config.problems import ModularSum, Problems
from scaling.config.resources import Resources
from scaling.config.sampling import Evaluation, Rollouts, Sampler, StepValues
from scaling.config.section import Count, Section, Seed, Seeds
from scaling.config.teacher import Teacher
from scaling.config.text_problems import TextProblems
from scaling.config.training import Dpo, Pretrain, Rft, Sft, StepDpo, StepRft

ALGORITHMS = ("sft", "rft", "dpo", "step_dpo", "step_rft")
Algorithm = Literal["sft", "rft", "dpo", "step_dpo", "step_rft"]


class Cell(Section):
    """Everything that decides one run's result, apart from its seed."""

    algorithm: Algorithm = "sft"
    data_size: Count = 256  # unique synthetic problems
    rounds: Annotated[int, Field(ge=1, le=20)] = 1  # of sampling from the policy so far and training on that
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
    sampler: Sampler | None = None  # a server that samples in place of this project's sampler

    @model_validator(mode="after")
    def _enough_test_problems(self) -> "Cell":
        asked, available = self.evaluation.critical_steps, self.problems.num_test
        if asked is not None and asked.problems > available:
            raise ValueError(
                f"evaluation.critical_steps.problems is {asked.problems}, but problems.num_test is {available}; the"
                " traces are of test problems: raise num_test or ask for fewer."
            )
        return self

    @model_validator(mode="after")
    def _teacher_has_language(self) -> "Cell":
        if self.teacher.named and not isinstance(self.problems, TextProblems):
            raise ValueError(
                f"teacher names {', '.join(self.teacher.named)}, but the family {self.problems.family} makes and solves"
                " its problems in a closed vocabulary; leave model and teachers out, or use a family in plain language."
            )
        if self.teacher.named and self.problems.solvable is not None:
            raise ValueError(
                f"teacher names {', '.join(self.teacher.named)}, to write new problems, but problems.solvable chooses"
                " among those of the set; leave one of the two out."
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
    results: Annotated[str, Field(min_length=1)] | None = None  # folder; null: results/NAME in the current folder
