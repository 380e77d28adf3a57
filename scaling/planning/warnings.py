"""Warnings about designs that cannot answer what they ask, printed before anything runs.

In: a sweep and its plan. Out: a sentence for each weakness, with the numbers and the cure.
"""

from collections import defaultdict
from importlib.util import find_spec

from scaling.config.algorithms import algorithm_names, algorithm_of
from scaling.config.sweep import Cell, Sweep
from scaling.config.text_problems import TextProblems
from scaling.config.training import Dpo, Rft
from scaling.planning.grid import axes
from scaling.planning.plan import Plan, Run

FEWEST_SEEDS, FEWEST_SIZES = 3, 3


def design_warnings(sweep: Sweep, current: Plan) -> list[str]:
    """What a reader of the results will miss."""
    found = tuple(run.cell for run in current.runs if run.seed == sweep.seeds[0])
    return [
        *_few_seeds(sweep),
        *_few_sizes(sweep, found),
        *_out_of_reach(sweep, found),
        *_too_few_samples(found),
        *_without_use(sweep, found),
        *_without_judge(found),
        *_equal_runs(sweep, current),
    ]


def _few_seeds(sweep: Sweep) -> list[str]:
    if (number := len(sweep.seeds)) >= FEWEST_SEEDS:
        return []
    lack = "one seed shows no differences between runs" if number == 1 else "two seeds hardly show how runs differ"
    return [f"{lack}, so intervals will be too narrow or missing; list at least {FEWEST_SEEDS} under seeds."]


def _few_sizes(sweep: Sweep, found: tuple[Cell, ...]) -> list[str]:
    reference = sweep.analysis.reference
    sizes = sorted({cell.data_size for cell in found if cell.algorithm == reference})
    if not sizes or len(sizes) >= FEWEST_SIZES:
        return []
    number = f"{len(sizes)} data size{'s' if len(sizes) > 1 else ''}"
    return [
        f"{reference}, the reference, has {number} ({', '.join(map(str, sizes))}); a curve needs at least"
        f" {FEWEST_SIZES}, and a fit with a floor more. Add sizes to its grid."
    ]


def _out_of_reach(sweep: Sweep, found: tuple[Cell, ...]) -> list[str]:
    name = sweep.analysis.reference
    largest = max((cell.data_size for cell in found if cell.algorithm == name), default=None)
    warnings = []
    for algorithm, claim in sweep.analysis.claims.items():
        smallest = min((cell.data_size for cell in found if cell.algorithm == algorithm), default=None)  # of --only
        if largest is None or smallest is None or isinstance(claim, str) or algorithm == name:
            continue
        if claim * smallest > largest:
            warnings.append(
                f"{claim:g}x cannot be seen for {algorithm}: its smallest size is {smallest}, and {name} runs to"
                f" {largest}, so multipliers end at {largest / smallest:.3g}. Run {name} to"
                f" {claim * smallest:.0f}, or the algorithm at a smaller size."
            )
    return warnings


def _too_few_samples(found: tuple[Cell, ...]) -> list[str]:
    warnings: dict[str, None] = {}
    for cell in found:
        samples = cell.rollouts.samples_per_problem
        asked = {
            "rft": ("rft.max_positives", cell.section(Rft).max_positives),
            "dpo": ("dpo.pairs_per_problem", cell.section(Dpo).pairs_per_problem),
            "step_dpo": ("step_values.negatives_per_problem", cell.step_values.negatives_per_problem),
        }
        key, number = asked.get(cell.algorithm, ("", 0))
        if number > samples:
            warnings[
                f"{key} is {number}, but only {samples} completions a problem are sampled; raise"
                " rollouts.samples_per_problem, or fewer will be used."
            ] = None
    return list(warnings)


def _without_use(sweep: Sweep, found: tuple[Cell, ...]) -> list[str]:
    """Settings of algorithms that no run uses."""
    run = [name for name in algorithm_names() if any(cell.algorithm == name for cell in found)]
    used = {*run, *(ancestor for name in run for ancestor in algorithm_of(name).ancestors)}
    if any(cell.section(Rft).keep in ("low_value", "high_value") for cell in found):
        used.add("step_rft")  # whose traces have the values
    warnings = []
    for name in algorithm_names():
        places = [name] if name in sweep.fixed else []
        places += [f"select.{name}"] if sweep.select and sweep.select.candidates_of(name) else []
        places += [f"grid.{axis}" for axis in axes(sweep) if axis.startswith(f"{name}.")]
        if places and name not in used:
            warnings.append(
                f"{', '.join(places)} {'has' if len(places) == 1 else 'have'} no effect: the grid runs"
                f" {', '.join(run)}. Leave it out, or take {name} into grid.algorithm."
            )
    return warnings


def _without_judge(found: tuple[Cell, ...]) -> list[str]:
    compared = any(
        isinstance(cell.problems, TextProblems) and getattr(cell.problems, "verifier", None) is None for cell in found
    )
    if not compared or find_spec("math_verify") is not None:
        return []
    return [
        "answers that are not plain numbers are compared by math-verify, which is not installed here: a stage that"
        " meets one fails. Install it before the sweep: pip install --editable '.[problems]'."
    ]


def _equal_runs(sweep: Sweep, current: Plan) -> list[str]:
    """Algorithms whose runs differ in settings that change nothing; the reference is shared on purpose."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in current.settled:
        if run.seed == sweep.seeds[0] and run.cell.algorithm != sweep.analysis.reference:
            alike[run.stage.digest].append(run)
    groups = [runs for runs in alike.values() if len(runs) > 1]
    if not groups:
        return []
    first, second = groups[0][:2]
    keys = [key for key, value in first.axis_values.items() if second.axis_values[key] != value]
    values = " and ".join(", ".join(f"{key} = {run.axis_values[key]}" for key in keys) for run in (first, second))
    others = f"; so do {len(groups) - 1} more such groups" if len(groups) > 1 else ""
    return [
        f"{first.cell.algorithm} at data_size {first.cell.data_size} trains on equal data with {values}: it runs once"
        f" and is reported under both{others}."
    ]
