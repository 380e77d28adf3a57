"""Which additions would narrow the widest multiplier's interval most for their cost.

In: a sweep that has had a first run, its store's numbers and the assumptions taken from that run. Out: `Candidate`s,
best first, round by round: one more size of an algorithm, one more seed for all, twice the test problems. Every
candidate is tried on parts of the same simulated studies, so that differences between them are not luck.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.fitting.bootstrap import crossed_bootstrap
from analysis.fitting.fits import fit_point, fit_replicates
from analysis.fitting.forms import FORMS
from analysis.multipliers.estimates import percentile_interval
from analysis.multipliers.model import design_of
from analysis.planner.assumptions import Assumptions, Grid, grids_of
from analysis.planner.simulation import simulate
from analysis.tables.outcomes import Outcomes
from data.sets.splits import pool_size
from scaling.config.sweep import Sweep
from scaling.planning.plan import NumbersOf, Plan, plan
from scaling.pricing.costs import cost
from scaling.stage import Stage

SEED, PROBLEMS = "one more seed for all", "twice the test problems"


@dataclass(frozen=True)
class Addition:
    """One way to enlarge a sweep."""

    what: str  # for readers
    sweep: Sweep  # with the addition
    plan: Plan  # of that sweep
    flops: float  # of the stages that it adds, estimated


@dataclass(frozen=True)
class Candidate:
    """What an addition would give, in one round."""

    round: int  # from 1
    what: str
    algorithm: str  # whose multiplier was the widest
    width: float  # of its interval before the addition: upper limit over lower
    gain: float  # log2 of how many times narrower it becomes; negative if it widens
    error: float  # standard error of the gain, over the studies
    flops: float
    chosen: bool

    @property
    def is_clear(self) -> bool:
        """Whether the gain exceeds what luck in the studies would explain."""
        return self.gain > 2 * self.error

    @property
    def gain_per_flop(self) -> float:
        """Infinite if nothing has to be computed."""
        return self.gain / self.flops if self.flops else math.copysign(math.inf, self.gain)


def suggest(
    sweep: Sweep,
    panel: str,
    assumptions: Assumptions,
    numbers_of: NumbersOf,
    num_rounds: int,
    num_studies: int,
    num_draws: int = 100,
    seed: int = 0,
    on_study: Callable[[], None] = lambda: None,
) -> tuple[Candidate, ...]:
    """In each round, try all additions and make the clear one with the most gain per FLOP; stop where none is clear.

    on_study: called after each simulated study of each round.
    """
    found: list[Candidate] = []
    for index in range(1, num_rounds + 1):
        before = plan(sweep, numbers_of)
        options = additions(sweep, before, numbers_of)
        if not options:
            break
        base = _panel(sweep, before, panel)
        grids = [_panel(item.sweep, item.plan, panel) for item in options]
        settings = (sweep.analysis.reference, num_studies, num_draws, seed)
        widths = widths_of([base, *grids], assumptions, *settings, on_study)
        algorithm = max(widths[0], key=lambda name: widths[0][name].mean())
        tried = [
            Candidate(
                index,
                item.what,
                algorithm,
                2 ** float(widths[0][algorithm].mean()),
                *_mean_and_error(widths[0][algorithm] - after[algorithm]),
                item.flops,
                chosen=False,
            )
            for item, after in zip(options, widths[1:], strict=True)
        ]
        clear = [at for at in range(len(tried)) if tried[at].is_clear]
        best = max(clear, key=lambda at: tried[at].gain_per_flop, default=None)
        if best is not None:
            tried[best] = replace(tried[best], chosen=True)
        found += sorted(tried, key=lambda item: -item.gain_per_flop)
        if best is None:
            break
        sweep = options[best].sweep
    return tuple(found)


def additions(sweep: Sweep, before: Plan, numbers_of: NumbersOf) -> list[Addition]:
    """Every way to enlarge a sweep by one step, with its cost, for which its problem family has enough problems."""
    options = [(SEED, sweep.model_copy(update={"seeds": (*sweep.seeds, _unused_seed(sweep))}))]
    for name in dict.fromkeys(run.cell.algorithm for run in before.runs):
        sizes = sorted({run.cell.data_size for run in before.runs if run.cell.algorithm == name})
        following = sizes[-1] * max(round(sizes[-1] / sizes[-2]), 2) if len(sizes) > 1 else 2 * sizes[-1]
        if all(following <= pool_size(run.cell.problems, "train") for run in before.runs):
            grids = (*sweep.grid, *_with_size(sweep, name, following))
            options.append((f"{name} at D = {following:,}", sweep.model_copy(update={"grid": grids})))
    doubled = _twice_the_problems(sweep, before)
    if doubled is not None:
        options.append((PROBLEMS, doubled))
    tried = [run.stage for run in before.search_runs]
    known = {_evaluation_key(stage): numbers for stage in tried if (numbers := numbers_of(stage))}

    def or_known(stage: Stage) -> Mapping[str, float] | None:
        """More test problems rename the validation stages too, but do not change their results."""
        return numbers_of(stage) or known.get(_evaluation_key(stage))

    there = {stage.digest for stage in before.stages}
    found = []
    for what, larger in options:
        after = plan(larger, or_known)
        new = (stage for stage in after.stages if stage.digest not in there and numbers_of(stage) is None)
        work = [cost(stage) for stage in new]
        found.append(Addition(what, larger, after, sum(item.flops + item.server_flops for item in work)))
    return found


def widths_of(
    grids: Sequence[Grid],
    assumptions: Assumptions,
    reference: str,
    num_studies: int,
    num_draws: int,
    seed: int,
    on_study: Callable[[], None] = lambda: None,
) -> list[dict[str, np.ndarray]]:
    """For every grid, log2 of upper over lower limit of each multiplier in each of the studies that the grids share."""
    names = list(dict.fromkeys(name for grid in grids for name in grid.sizes))
    union = Grid(
        "",
        {name: tuple(sorted({size for grid in grids for size in grid.sizes[name]})) for name in names},
        max(grid.num_seeds for grid in grids),
        max(grid.num_problems for grid in grids),
    )
    multipliers = {name: assumptions.multipliers[name] for name in names}
    found = [{name: np.zeros(num_studies) for name in names if name != reference} for _ in grids]
    for index in range(num_studies):
        generator = np.random.default_rng([seed, 0x5066, index])
        everything = simulate(multipliers, union.sizes, assumptions.curve, assumptions.noise(union), generator)
        for grid, widths in zip(grids, found, strict=True):
            part = _part(everything, grid)
            for name, width in log2_widths(part, reference, assumptions.form, num_draws, seed + index).items():
                widths[name][index] = width
        on_study()
    return found


def log2_widths(outcomes: Outcomes, reference: str, form: str, num_draws: int, seed: int) -> dict[str, float]:
    """log2 of upper over lower limit of every constant multiplier, in one study, under one form."""
    draws, found = crossed_bootstrap(outcomes, num_draws, seed, reference), {}
    for name in outcomes.algorithms:
        if name == reference:
            continue
        pair = outcomes.part([reference, name])
        cells = np.concatenate([outcomes.cells_of(reference), outcomes.cells_of(name)])
        design = design_of(pair, (reference, name), pair.errors)
        point = fit_point(design, pair.errors, FORMS[form], "H1", min_sizes=0)
        low, high = percentile_interval(fit_replicates(design, draws[:, cells], point).log_multiplier(1))
        found[name] = (high - low) / math.log(2)
    return found


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, which one study leaves unknown: infinite."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), float(error)


def _part(outcomes: Outcomes, grid: Grid) -> Outcomes:
    """The cells, the first seeds and the first problems of a grid."""
    at = [outcomes.index(name, size) for name, sizes in grid.sizes.items() for size in sizes]
    found = outcomes.cut(np.array(at), np.arange(grid.num_seeds))
    count = grid.num_problems
    return replace(found, problems=found.problems[:count], wrong=found.wrong[:, :, :count])


def _panel(sweep: Sweep, current: Plan, panel: str) -> Grid:
    return next(grid for grid in grids_of(sweep, current) if grid.panel == panel)


def _unused_seed(sweep: Sweep) -> int:
    taken = {*sweep.seeds, *(sweep.select.seeds if sweep.select else ())}
    return next(seed for seed in range(max(sweep.seeds) + 1, 2**32) if seed not in taken)


def _with_size(sweep: Sweep, algorithm: str, size: int) -> list[dict[str, tuple[object, ...]]]:
    """The grids of an algorithm, at another size."""
    default = (sweep.fixed.get("algorithm", "sft"),)
    found: list[dict[str, tuple[object, ...]]] = []
    for grid in sweep.grid:
        enlarged = {**grid, "algorithm": (algorithm,), "data_size": (size,)}
        if algorithm in grid.get("algorithm", default) and enlarged not in found:
            found.append(enlarged)
    return found


def _twice_the_problems(sweep: Sweep, before: Plan) -> Sweep | None:
    counts = {run.cell.problems.num_test for run in before.runs}
    if len(counts) > 1:
        return None  # the number of problems is itself an axis
    count = 2 * counts.pop()
    if any(count > pool_size(run.cell.problems, "test") for run in before.runs):
        return None
    given = sweep.fixed.get("problems")
    family = {"family": before.runs[0].cell.problems.family}
    problems = {**family, **(given if isinstance(given, Mapping) else {}), "num_test": count}
    return sweep.model_copy(update={"fixed": {**sweep.fixed, "problems": problems}})


def _evaluation_key(stage: Stage) -> tuple[object, ...] | None:
    if stage.kind != "evaluation":
        return None
    return stage.inputs["policy"].digest, stage.config["split"], stage.config["seed"]
