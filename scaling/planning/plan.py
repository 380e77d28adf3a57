"""From a sweep to one deduplicated DAG of stages, and to the settings that selection has chosen so far.

In: `Sweep`, and `numbers_of`, which returns the stored numbers of a stage or None. Out: `Plan`. Pure: the same sweep
and the same stored numbers give the same plan.

Selection makes a plan grow: an algorithm's candidates are trained on separate seeds and compared by mean
validation error; SFT's choice comes first, since every other algorithm descends from the SFT policy. So the engine
plans, executes, and plans again until no run waits for a choice.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from scaling.config.algorithms import algorithm_of
from scaling.config.section import Section
from scaling.config.sweep import Cell, Sweep
from scaling.planning import recipes
from scaling.planning.grid import axes, cells
from scaling.stage import Stage, in_order

NumbersOf = Callable[[Stage], Mapping[str, float] | None]


@dataclass(frozen=True)
class Run:
    """A cell at one seed."""

    cell: Cell  # with the chosen settings
    seed: int
    axis_values: Mapping[str, object]  # dotted axis key -> this cell's value
    stage: Stage  # its evaluation
    measured: Stage | None = None  # its critical steps, if the sweep measures them
    sets: Mapping[str, Stage] = field(default_factory=dict)  # its evaluations on further test sets, by name
    choice: "Choice | None" = None  # the comparison that chose its algorithm's own settings, if there was one

    @property
    def targets(self) -> tuple[Stage, ...]:
        """The stages whose results the run needs in the store."""
        return (self.stage, *(() if self.measured is None else (self.measured,)), *self.sets.values())

    def on_each_set(self) -> dict[str, "Run"]:
        """The run as measured on the study's test problems, under an empty name, and on each further set."""
        return {"": self, **{name: replace(self, stage=stage, sets={}) for name, stage in self.sets.items()}}

    @property
    def trained(self) -> Stage:
        """The stage that trained the measured policy, which may be one of its checkpoints."""
        policy = self.stage.inputs["policy"]
        return policy.inputs["policy"] if policy.kind == "best_checkpoint" else policy

    @property
    def by_kind(self) -> dict[str, Stage]:
        """Kind -> stage of what leads to the evaluation; of several rounds the last."""
        return {stage.kind: stage for stage in in_order([self.stage])}

    @property
    def name(self) -> str:
        """The axis values and the seed, for messages."""
        return ", ".join([*(f"{key}={value}" for key, value in self.axis_values.items()), f"seed={self.seed}"])


@dataclass(frozen=True)
class Candidate:
    """Settings under comparison, with the evaluations on validation problems that compare them."""

    settings: Mapping[str, object]  # key of the algorithm's section -> value
    runs: tuple[Run, ...]  # one per selection seed
    error: float | None  # mean validation error; None while an evaluation is missing


@dataclass(frozen=True)
class Choice:
    """The comparison for one algorithm in one cell."""

    algorithm: str
    data_size: int
    axis_values: Mapping[str, object]
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate | None:
        """The candidate with the lowest mean validation error, the first one in a tie; None while one is missing."""
        errors = [candidate.error for candidate in self.candidates if candidate.error is not None]
        return None if len(errors) < len(self.candidates) else self.candidates[errors.index(min(errors))]

    @property
    def key(self) -> tuple[str, ...]:
        """A key that is equal for cells with the same comparison."""
        return tuple(run.stage.digest for candidate in self.candidates for run in candidate.runs)


@dataclass(frozen=True)
class Plan:
    """Everything known about a sweep, given what is stored."""

    runs: tuple[Run, ...]  # all of them; those in `waiting` hold middle candidates for now
    waiting: tuple[Run, ...]  # the runs whose settings are not chosen yet
    choices: tuple[Choice, ...]
    base: tuple[Stage, ...]  # evaluations of the base policies

    @property
    def search_runs(self) -> tuple[Run, ...]:
        """The runs on selection seeds."""
        return tuple(run for choice in self.choices for candidate in choice.candidates for run in candidate.runs)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every distinct stage of the sweep, inputs first, including the provisional ones of waiting runs."""
        return in_order(self._targets(self.runs))

    @cached_property
    def ready_stages(self) -> tuple[Stage, ...]:
        """The stages that can be executed now: without those of waiting runs."""
        return in_order(self._targets(self.settled))

    @cached_property
    def settled(self) -> tuple[Run, ...]:
        """The runs whose settings are known."""
        waiting = set(self.waiting_digests)
        return tuple(run for run in self.runs if run.stage.digest not in waiting)

    @property
    def waiting_digests(self) -> tuple[str, ...]:
        return tuple(run.stage.digest for run in self.waiting)

    @property
    def num_named(self) -> int:
        """The number of stages that would run without sharing: each counts once for every run that needs it."""
        return sum(len(in_order(run.targets)) for run in (*self.search_runs, *self.runs)) + sum(
            len(in_order([stage])) for stage in self.base
        )

    def _targets(self, runs: Iterable[Run]) -> list[Stage]:
        return [*self.base, *(stage for run in (*self.search_runs, *runs) for stage in run.targets)]


def plan(sweep: Sweep, numbers_of: NumbersOf) -> Plan:
    """Plan the sweep, given what is stored."""
    choices: dict[tuple[str, ...], Choice] = {}
    runs, waiting = [], []
    base: dict[str, Stage] = {}
    for cell in cells(sweep):
        values = {key: value_at(cell, key) for key in axes(sweep)}
        resolved, pending, choice = _resolve(sweep, cell, values, numbers_of, choices)
        for seed in sweep.seeds:
            run = Run(
                resolved,
                seed,
                values,
                recipes.evaluation(resolved, seed),
                recipes.critical_steps(resolved, seed),
                {one.name: recipes.evaluation_on(resolved, seed, one) for one in resolved.evaluation.sets},
                choice,
            )
            runs.append(run)
            if pending:
                waiting.append(run)
        for test_set in (None, *cell.evaluation.sets):
            stage = recipes.base_evaluation(cell, test_set)
            base[stage.digest] = stage
    return Plan(tuple(runs), tuple(waiting), tuple(choices.values()), tuple(base.values()))


def value_at(cell: Cell, dotted: str) -> object:
    """The value of a dotted key; None if the cell's problem family has no such key."""
    value: object = cell
    for part in dotted.split("."):
        value = dict(value).get(part) if isinstance(value, Section) else None
    return value


def _resolve(
    sweep: Sweep,
    cell: Cell,
    values: Mapping[str, object],
    numbers_of: NumbersOf,
    choices: dict[tuple[str, ...], Choice],
) -> tuple[Cell, bool, Choice | None]:
    """The cell with the chosen settings; whether a choice is still open (a middle candidate is then used); its own."""
    if sweep.select is None:
        return cell, False, None
    pending, own = False, None
    for algorithm in (*algorithm_of(cell.algorithm).ancestors, cell.algorithm):
        candidates = sweep.select.candidates_of(algorithm)
        if not candidates:
            continue
        compared = []
        for combination in itertools.product(*candidates.values()):
            settings = dict(zip(candidates, combination, strict=True))
            candidate_cell = cell.with_settings(algorithm, settings).model_copy(update={"algorithm": algorithm})
            candidate_runs = tuple(
                Run(candidate_cell, seed, {**values, "algorithm": algorithm}, recipes.validation(candidate_cell, seed))
                for seed in sweep.select.seeds
            )
            compared.append(Candidate(settings, candidate_runs, _mean_error(candidate_runs, numbers_of)))
        choice = Choice(algorithm, cell.data_size, values, tuple(compared))
        if not pending:  # while the ancestor's choice is open, nothing can be compared
            choices.setdefault(choice.key, choice)
        chosen = choice.chosen
        pending = pending or chosen is None
        cell = cell.with_settings(algorithm, (chosen or choice.candidates[len(choice.candidates) // 2]).settings)
        own = choice if algorithm == cell.algorithm else None
    return cell, pending, own


def _mean_error(runs: tuple[Run, ...], numbers_of: NumbersOf) -> float | None:
    errors = [numbers["error"] for run in runs if (numbers := numbers_of(run.stage)) is not None]
    return sum(errors) / len(errors) if len(errors) == len(runs) else None
