"""The schema of a sweep file with every default, in frozen pydantic models.

In: plain mappings (scaling.planning.sweep_file reads them from YAML). Out: `Sweep`, and `Cell`, the configuration of
one point of its grid. The sections with their defaults are in the modules beside this one; docs/sweeps.md explains
every key.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator

from scaling.config.algorithms import Algorithm, algorithms
from scaling.config.errors import did_you_mean
from scaling.config.memory import Memory
from scaling.config.policy import Policy
from scaling.config.problems import ModularSum, ProblemFamily, Problems, families, settings_of
from scaling.config.resources import Resources
from scaling.config.sampling import Checkpoint, Evaluation, Rollouts, Sampler, StepValues, TestSet, Verifier
from scaling.config.section import Count, NonNegative, Section, Seed, Seeds, Text
from scaling.config.teacher import Teacher
from scaling.config.text_problems import TextProblems
from scaling.config.training import Pretrain

Settings = TypeVar("Settings", bound=Section)


class Cell(Section):
    """Everything that decides one run's result, except its seed.

    Each known algorithm adds a section under its name (`cell_schema`), which `section` reads; `problems` may be of any
    known family.
    """

    algorithm: str = "sft"
    data_size: Count = 256  # unique synthetic problems
    rounds: Annotated[int, Field(ge=1, le=20)] = 1  # of sampling from the latest policy and training on the samples
    problems: Problems = ModularSum()
    policy: Policy = Policy()
    pretrain: Pretrain = Pretrain()
    teacher: Teacher = Teacher()
    rollouts: Rollouts = Rollouts()
    verifier: Verifier = Verifier()
    step_values: StepValues = StepValues()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    sampler: Sampler | None = None  # a server that samples in place of this project's sampler

    @classmethod
    def of(cls, **sections: object) -> "Cell":
        """A cell with these sections, in the schema of all algorithms and families that are known now."""
        return cell_schema().model_validate(sections)

    def section(self, settings: type[Settings]) -> Settings:
        """The settings of the algorithm whose record names this class."""
        (name,) = (algorithm.name for algorithm in algorithms() if algorithm.settings is settings)
        found = getattr(self, name)
        assert isinstance(found, settings)  # the schema is made from the same records
        return found

    def with_settings(self, algorithm: str, settings: Mapping[str, object]) -> "Cell":
        """The cell with some keys of one algorithm's section replaced; validated again, since model_copy would not."""
        merged = self.model_dump()
        merged[algorithm] = {**merged[algorithm], **settings}
        return type(self).model_validate(merged)

    @model_validator(mode="after")
    def _enough_test_problems(self) -> "Cell":
        asked, available = self.evaluation.critical_steps, self.problems.num_test
        if asked is not None and asked.problems > available:
            raise ValueError(
                f"evaluation.critical_steps.problems is {asked.problems}, but problems.num_test is {available}; the"
                " traces come from test problems: raise num_test or lower problems."
            )
        return self

    def on(self, test_set: TestSet) -> "Cell":
        """The cell with the problems of one of its further test sets. Raises ValueError for keys they do not have."""
        changed = type(self.problems).model_validate({**self.problems.model_dump(), **test_set.changes})
        return self.model_copy(update={"problems": changed})

    @model_validator(mode="after")
    def _sets_are_problems(self) -> "Cell":
        mistakes, known = [], {self.problems: "the study's own test set"}
        for index, one in enumerate(self.evaluation.sets):
            where = f"evaluation.sets[{index}].problems"
            if "family" in one.changes:
                mistakes.append(f"{where} of {one.name!r} names a family; it has that of the study: leave it out.")
                continue
            try:
                problems = self.on(one).problems
            except ValidationError as error:
                mistakes += [_about_set(found, f"{where} of {one.name!r}", self.problems) for found in error.errors()]
                continue
            if problems in known:
                mistakes.append(
                    f"{where} of {one.name!r} are those of {known[problems]}; give it another value of a key of the"
                    " section problems."
                )
            known[problems] = repr(one.name)
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @model_validator(mode="after")
    def _teacher_has_language(self) -> "Cell":
        if not self.teacher.named:
            return self
        if not isinstance(self.problems, TextProblems):
            raise ValueError(
                f"teacher names {', '.join(self.teacher.named)}, but the family {self.problems.family} writes and"
                " solves its problems in a closed vocabulary; leave model and teachers out, or use a family in plain"
                " language."
            )
        if self.problems.solvable is not None:
            raise ValueError(
                f"teacher names {', '.join(self.teacher.named)}, to write new problems, but problems.solvable chooses"
                " among those of the set; leave one of the two out."
            )
        return self


def _about_set(mistake: Mapping[str, Any], where: str, problems: Section) -> str:
    """A sentence about one of pydantic's errors in the problems of a further test set."""
    key = ".".join(map(str, mistake["loc"]))
    if mistake["type"] == "extra_forbidden":
        return f"{where} has the unknown key {key!r}.{did_you_mean(key, tuple(type(problems).model_fields))}"
    said = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
    if not key:
        return f"{where}: {said}."
    expected = said.removeprefix("a valid ")
    return f"{where} has {key} = {mistake['input']!r}; expected {expected}, as in the section problems."


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"is {value!r}; expected two algorithms to compare, such as [step_dpo, rft].")
    return value


def _claim(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"<=\s*\d+(\.\d+)?", value) and float(value[2:]) > 0:
        return value
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        raise ValueError(f'is {value!r}; a claim is a multiplier such as 2, or "<=1".')
    if not 0 < value < math.inf:
        raise ValueError(f"is {value:g}; a multiplier must be positive and finite, such as 2.")
    return value


Pair = Annotated[tuple[str, str], Field(strict=False), BeforeValidator(_pair)]
Claim = Annotated[float | str, BeforeValidator(_claim)]  # a multiplier, or "<=x"


class Analysis(Section):
    """The claims to test and how the intervals are made."""

    reference: str = "sft"
    claims: Mapping[str, Claim] = {}  # by algorithm
    compare: Annotated[tuple[Pair, ...], Field(strict=False)] = ()  # algorithms to compare with each other
    equal_within: Annotated[float, Field(gt=1.0, allow_inf_nan=False)] | None = None  # a ratio of compared algorithms
    problem_flops: NonNegative = 0.0  # what the teacher charges for a synthetic problem
    bootstrap_draws: Annotated[int, Field(ge=200, le=100_000)] = 2000
    seed: Seed = 0


class Figures(Section):
    """How figures are printed."""

    width: Annotated[float, Field(ge=2.0, le=12.0)] | None = None  # inches; null: each figure's own


class Select(Section):
    """Settings to choose on validation problems: for each algorithm, candidate values of its section's keys."""

    seeds: Seeds

    def candidates_of(self, algorithm: str) -> Mapping[str, list[object]]:
        """Key of the algorithm's section -> its candidate values."""
        found: Mapping[str, list[object]] = getattr(self, algorithm)
        return found


class Sweep(Section):
    """One sweep file: the question, what is fixed, the axes, and how to analyse and run it."""

    question: Text
    expectation: str | None = None
    fixed: Mapping[str, object] = {}  # the Cell's sections as the file gives them
    grid: tuple[Mapping[str, tuple[object, ...]], ...]  # each maps a dotted key to its values; their union runs
    seeds: Seeds
    select: Select | None = None
    analysis: Analysis = Analysis()
    labels: Mapping[str, Text] = {}  # what the report calls an algorithm, a variant or a setting
    figure: Figures = Figures()
    resources: Resources = Resources()
    memory: Memory = Memory()
    store: Text = "results/store"
    results: Text | None = None  # folder; null: results/NAME in the current folder
    imports: Annotated[tuple[Text, ...], Field(strict=False)] = ()  # Python files


def cell_schema() -> type[Cell]:
    """`Cell` with a section for each algorithm, and the problems of each family, that are known now."""
    return _schemas(algorithms(), families())[0]


def sweep_schema() -> type[Sweep]:
    """`Sweep` whose `select` has candidates for each algorithm that is known now."""
    return _schemas(algorithms(), families())[1]


@cache
def _schemas(known: tuple[Algorithm, ...], known_families: tuple[ProblemFamily, ...]) -> tuple[type[Cell], type[Sweep]]:
    names = tuple(algorithm.name for algorithm in known)
    name_type = Literal[names]  # type: ignore[valid-type]  # the names are known at run time only
    sections: dict[str, Any] = {algorithm.name: (algorithm.settings, algorithm.settings()) for algorithm in known}
    sections["problems"] = (settings_of(known_families), ModularSum())
    cell = create_model("Cell", __base__=Cell, algorithm=(name_type, "sft"), **sections)
    candidates: dict[str, Any] = {name: (Mapping[str, list[object]], {}) for name in names}
    select = create_model("Select", __base__=Select, **candidates)
    select_or_none: Any = select | None
    analysis = create_model("Analysis", __base__=Analysis, reference=(name_type, "sft"))
    sweep = create_model("Sweep", __base__=Sweep, select=(select_or_none, None), analysis=(analysis, analysis()))
    return cell, sweep
