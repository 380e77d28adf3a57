"""One panel of a report: a finished study with further facts about its runs.

In: a `Study`, or outcomes and the question that they answer; the error without data; the cost of its runs. Out:
`Panel`, from which files, figures and reports are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from analysis.multipliers.prediction import Predicted, predicted
from analysis.multipliers.robustness import Questions, questions
from analysis.tables.cells import Cells, OutcomesError
from analysis.tables.printing import label
from analysis.tables.selection import Moves
from analysis.verdicts.compute import FLOPS, ComputeMultiplier, Costs, compute_multipliers
from analysis.verdicts.equal_error import EqualError, equal_errors
from analysis.verdicts.evidence import BOUNDS, REJECTED
from analysis.verdicts.judge import listed
from analysis.verdicts.study import Study, analyse


@dataclass(frozen=True)
class Question:
    """A question about outcomes, and how precise the answer should be."""

    reference: str  # the algorithm that the others are compared with
    claims: Mapping[str, float | str]  # algorithm -> a multiplier, or "<=x"
    num_draws: int  # of the bootstrap
    seed: int
    problem_flops: float = 0.0  # the teacher's price of a synthetic problem
    predict: tuple[int, ...] = ()  # data sizes at which m and that of a new run are predicted
    compare: tuple[tuple[str, str], ...] = ()  # pairs of algorithms to compare with each other, the second as reference
    equal_within: float | None = None  # compared algorithms are equal if the interval of m lies within 1 / this to this


@dataclass(frozen=True)
class Panel:
    """Everything that files and reports show about one study."""

    study: Study
    base_error: float | None = None  # of the base policy
    costs: Mapping[str, Costs] = field(default_factory=dict)  # currency -> cost of one run; absent if unknown
    comparisons: tuple[Study, ...] = ()  # of two algorithms each
    ceiling: Mapping[int, float] = field(default_factory=dict)  # data size -> the largest m possible; empty if unknown

    problem_flops: float = 0.0  # the teacher's price of a synthetic problem
    equal_within: float | None = None

    @property
    def flops(self) -> Costs:
        """FLOPs of one run of each cell, its problems included; empty if unknown."""
        return {cell: own + self.problem_flops * cell[1] for cell, own in self.costs.get(FLOPS, {}).items()}

    @cached_property
    def compute(self) -> tuple[ComputeMultiplier, ...]:
        """Multipliers in the currencies that are known."""
        return compute_multipliers(self.study, self.costs, self.problem_flops)

    @cached_property
    def equal_errors(self) -> tuple[EqualError, ...]:
        """Compute multipliers at equal error, over all budgets of a learner; empty if costs are unknown."""
        return equal_errors(self.study, self.flops)

    def predicted(self, data_size: int, seed: int = 0) -> tuple[Predicted, ...]:
        """m at a data size, for every algorithm that has one number or an m that changes with D and fits."""
        study, found = self.study, []
        for name, model in study.models.items():
            constant, code = study.overall(name) is not None, study.verdict(name).code
            fits = constant or (model.lack_of_fit_varying >= REJECTED and code not in ("INVERSE", *BOUNDS))
            found += [predicted(model, data_size, not constant, seed)] if fits else []
        return tuple(found)

    @cached_property
    def questions(self) -> Mapping[str, Questions]:
        """The robustness checks of each algorithm that has a joint fit."""
        return {name: questions(model) for name, model in self.study.models.items()}


def analysed(
    outcomes: Cells,
    question: Question,
    base_error: float | None = None,
    costs: Mapping[str, Costs] = MappingProxyType({}),
    ceiling: Mapping[int, float] = MappingProxyType({}),
    selection: Moves = MappingProxyType({}),
) -> Panel:
    """Analyse one panel.

    base_error: of the base policy, if known: a curve that starts flat begins there. ceiling: the largest multiplier
    that the problems allow, by data size, if known. selection: how errors move where settings were chosen without one
    of the selection seeds.
    """
    numbers = (question.num_draws, question.seed, base_error)
    pairs = compared(question.compare, outcomes.algorithms)
    comparisons = tuple(analyse(outcomes.part([b, a]), b, {}, *numbers, selection=selection) for a, b in pairs)
    study = analyse(outcomes, question.reference, question.claims, *numbers, ceiling, selection)
    return Panel(study, base_error, costs, comparisons, ceiling, question.problem_flops, question.equal_within)


def check_sense(study: Study) -> None:
    """Raise OutcomesError if more data raised the error of every algorithm, as right answers counted as wrong do."""
    outcomes, turned = study.outcomes, {item.algorithm for item in study.inversions}
    rise = all(name in turned or len(outcomes.sizes_of(name)) == 1 for name in outcomes.algorithms)
    if rise and study.refusal is not None:  # so soon that no curve of the reference is left
        own = outcomes.errors[outcomes.cells_of(study.reference)]
        raise OutcomesError(
            f"the error of every algorithm rises with data, that of {study.reference} from {own[0]:.3g} to"
            f" {own[-1]:.3g}; wrong is 1 for a wrong answer, and num_wrong counts wrong ones. If the table counts right"
            " ones, give 1 - wrong, or num_problems - num_wrong."
        )


def equivalence(panel: Panel, pair: Study, margin: float) -> str:
    """Whether two algorithms, the pair's reference and one other, are equal within a margin: a sentence.

    One number for all sizes decides if there is one. Else the ratios at every size do, of multipliers against the
    panel's reference: equal means at all sizes at once, different at one at least.
    """
    (name,) = (one for one in pair.outcomes.algorithms if one != pair.reference)
    of = f"{label(name)} and {label(pair.reference)} within 1/{margin:g} to {margin:g}"
    sizes = set(pair.outcomes.sizes_of(name)) & set(pair.outcomes.sizes_of(pair.reference))
    one = pair.overall(name)
    found: tuple[tuple[float, float], ...]
    if one is not None:
        found, what = ((one.low, one.high),), f"the ratio is {one.estimate:.2f} ({one.low:.2f} to {one.high:.2f})"
    elif not sizes:
        return f"{of}: cannot be said, since they have no data size in common."
    else:
        points = panel.study.ratios_at_sizes(name, pair.reference)
        if beyond := sorted(sizes - {point.data_size for point in points}):
            reference, where = label(panel.study.reference), listed([f"{size:,}" for size in beyond])
            return f"{of}: cannot be said, since at D = {where} the range of {reference} does not give both."
        found = tuple((point.low, point.high) for point in points)
        ratios = [f"{at.estimate:.2f} ({at.low:.2f} to {at.high:.2f}) at D = {at.data_size:,}" for at in points]
        what = f"the ratio is {listed(ratios)}, with 95 % limits for all sizes at once"
    if all(1 / margin <= low and high <= margin for low, high in found):
        return f"{of}: EQUAL, {what}, wholly within the margin."
    if any(low > margin or high < 1 / margin for low, high in found):
        return f"{of}: DIFFERENT, {what}, {'wholly' if len(found) == 1 else 'at a size wholly'} outside of the margin."
    return f"{of}: UNDECIDED, {what}, which crosses the margin."


def compared(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """The requested pairs among a panel's algorithms; an algorithm's name covers all its variants."""

    def variants(name: str) -> list[str]:
        return [one for one in names if one == name or one.startswith(f"{name},")]

    found = [(one, other) for a, b in pairs for one in variants(a) for other in variants(b) if one != other]
    return list(dict.fromkeys(found))
