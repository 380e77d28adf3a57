"""One panel of a report: a finished study and what is known beside its outcomes.

In: a `Study`, the error without data, what its runs cost. Out: `Panel`, which files and reports are made of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from analysis.compute import ComputeMultiplier, compute_multipliers
from analysis.questions import Questions, questions
from analysis.study import Study


@dataclass(frozen=True)
class Panel:
    """Everything that files and reports show of one study."""

    study: Study
    base_error: float | None = None  # of the base policy
    flops: Mapping[tuple[str, int], float] = field(default_factory=dict)  # of one run; empty where costs are not known

    @cached_property
    def compute(self) -> tuple[ComputeMultiplier, ...]:
        """Multipliers per FLOP; none where costs are not known."""
        return compute_multipliers(self.study, self.flops) if self.flops else ()

    @cached_property
    def questions(self) -> Mapping[str, Questions]:
        """What questions the joint fit of each algorithm that has one."""
        return {name: questions(model) for name, model in self.study.models.items()}
