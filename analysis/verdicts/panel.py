"""One panel of a report: a finished study with further facts about its runs.

In: a `Study`, or outcomes and the question that they answer; the error without data, the cost of its runs. Out:
`Panel`, from which files, figures and reports are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from analysis.multipliers.questions import Questions, questions
from analysis.tables.cells import Cells
from analysis.verdicts.compute import ComputeMultiplier, compute_multipliers
from analysis.verdicts.study import Study, analyse


@dataclass(frozen=True)
class Question:
    """A question about outcomes, and how precise the answer should be."""

    reference: str  # the algorithm that the others are compared with
    claims: Mapping[str, float | str]  # algorithm -> a multiplier, or "<=x"
    num_draws: int  # of the bootstrap
    seed: int
    compare: tuple[tuple[str, str], ...] = ()  # pairs of algorithms to compare with each other, the second as reference


@dataclass(frozen=True)
class Panel:
    """Everything that files and reports show about one study."""

    study: Study
    base_error: float | None = None  # of the base policy
    flops: Mapping[tuple[str, int], float] = field(default_factory=dict)  # of one run; empty if costs are unknown
    comparisons: tuple[Study, ...] = ()  # of two algorithms each
    ceiling: Mapping[int, float] = field(default_factory=dict)  # data size -> the largest m possible; empty if unknown

    @cached_property
    def compute(self) -> tuple[ComputeMultiplier, ...]:
        """Multipliers per FLOP; empty if costs are unknown."""
        return compute_multipliers(self.study, self.flops) if self.flops else ()

    @cached_property
    def questions(self) -> Mapping[str, Questions]:
        """The robustness checks of each algorithm that has a joint fit."""
        return {name: questions(model) for name, model in self.study.models.items()}


def analysed(
    outcomes: Cells,
    question: Question,
    base_error: float | None = None,
    flops: Mapping[tuple[str, int], float] = MappingProxyType({}),
    ceiling: Mapping[int, float] = MappingProxyType({}),
) -> Panel:
    """Analyse one panel.

    base_error: of the base policy, if known: a curve that starts flat begins there. ceiling: the largest multiplier
    that the problems allow, by data size, if known.
    """
    numbers = (question.num_draws, question.seed, base_error)
    pairs = compared(question.compare, outcomes.algorithms)
    comparisons = tuple(analyse(outcomes.part([b, a]), b, {}, *numbers) for a, b in pairs)
    study = analyse(outcomes, question.reference, question.claims, *numbers, ceiling)
    return Panel(study, base_error, flops, comparisons, ceiling)


def compared(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """The requested pairs among a panel's algorithms; an algorithm's name covers all its variants."""

    def variants(name: str) -> list[str]:
        return [one for one in names if one == name or one.startswith(f"{name},")]

    found = [(one, other) for a, b in pairs for one in variants(a) for other in variants(b) if one != other]
    return list(dict.fromkeys(found))
