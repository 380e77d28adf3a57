"""Two or more sweeps against each other: `python -m analysis.compare results/A results/B`. Needs neither jax nor ray.

In: folders of results whose studies have a reference and algorithms in common. Out: differences in error at every
size that two share, the ratio of their multipliers, and a summary of each algorithm's multipliers over all sweeps. If
the sweeps have the same test problems, these are resampled together, so that their difficulty cancels; runs of a seed
keep their shared effects, because D_syn is the same.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.optimize import brentq
from scipy.stats import t

import analysis.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from analysis.multipliers.estimates import percentile_interval
from analysis.page.rendering import write_csv
from analysis.reporting.results_folder import ResultsError, open_folder
from analysis.tables.outcomes import Outcomes
from analysis.tables.printing import label
from analysis.tables.selection import Moves
from analysis.verdicts.headline import number
from analysis.verdicts.judge import points
from analysis.verdicts.outcome_file import MIN_DRAWS
from analysis.verdicts.study import Study, analyse
from scaling.config.errors import ConfigError
from scaling.engine.output import Output, OutputError
from scaling.plugins import add_imports, load_plugins

FILE = "comparison.csv"
COLUMNS = ("what", "algorithm", "data_size", "first", "second", "estimate", "low", "high")


@dataclass(frozen=True)
class Summary:
    """One multiplier measured in K studies, on the scale of the input."""

    mean: float
    low: float  # 95 % interval of the mean
    high: float
    between: float  # variance of the studies' true values
    predicted_low: float  # 95 % interval of another study's true value; infinite with fewer than three studies
    predicted_high: float


@dataclass(frozen=True)
class Comparison:
    """Results of several sweeps on the same algorithms."""

    names: tuple[str, ...]  # of the sweeps
    reference: str
    paired: bool  # whether all have the same test problems
    rows: pd.DataFrame  # COLUMNS: differences in error, and ratios of multipliers, first over second
    summaries: Mapping[str, Summary]  # algorithm -> its log multiplier over the sweeps that have one


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 compared, 2 wrong usage or folders with nothing in common."""
    parser = argparse.ArgumentParser(prog="python -m analysis.compare", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="results, such as results/quickstart")
    parser.add_argument("--panel", help="which study of sweeps that have several")
    parser.add_argument("--draws", type=int, default=2000, metavar="N", help="bootstrap draws, default 2000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap, default 0")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"also write {FILE} there")
    add_imports(parser)
    arguments = parser.parse_args(argv)
    if len(arguments.folders) < 2:
        parser.error(f"only {arguments.folders[0]} is given; name the results of two or more sweeps.")
    if arguments.draws < MIN_DRAWS or arguments.seed < 0:
        parser.error(f"--draws must be at least {MIN_DRAWS}, and --seed 0 or more.")
    output = Output(arguments.out, "analysis.compare", (FILE,)) if arguments.out else None
    try:
        load_plugins(arguments.imports)
        if output:
            output.check()
        found = compare_folders(arguments.folders, arguments.panel, arguments.draws, arguments.seed)
        if output:
            with output.writing() as directory:
                write_csv(found.rows, directory / FILE)
    except (ConfigError, OutputError, ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _show(found, Console(highlight=False))
    return 0


def compare_folders(folders: Sequence[Path], panel: str | None = None, draws: int = 2000, seed: int = 0) -> Comparison:
    """Compare results of sweeps. Raises ResultsError if they have nothing in common."""
    opened = [open_folder(folder, panel) for folder in folders]
    references = [str(one.fits["reference"]) for one in opened]
    if len(set(references)) > 1:
        raise ResultsError(
            f"the sweeps have different references, {', '.join(references)}; multipliers of the same algorithm compare"
            " only against the same one."
        )
    names = _short(folders)
    named = dict(zip(names, opened, strict=True))
    outcomes = {name: one.cells for name, one in named.items()}
    return compare(outcomes, references[0], draws, seed, {name: one.selection for name, one in named.items()})


def compare(
    outcomes: Mapping[str, Outcomes],
    reference: str,
    draws: int = 2000,
    seed: int = 0,
    selection: Mapping[str, Moves] = MappingProxyType({}),
) -> Comparison:
    """outcomes: by the name of the sweep; selection: as for `analyse`, by the name too.

    Raises ResultsError if no algorithm is in two of them.
    """
    problems = {table.problems for table in outcomes.values()}
    shared = [name for table in outcomes.values() for name in table.algorithms]
    if max(map(shared.count, shared)) < 2:
        raise ResultsError(f"no algorithm is in two of the sweeps; they have {', '.join(dict.fromkeys(shared))}.")
    studies = {}
    for place, (name, table) in enumerate(outcomes.items()):
        # Run effects are drawn by the algorithm's name, so those of two sweeps are independent. Problems are drawn by
        # number.
        renamed = replace(table, algorithm=np.array([_at(one, name) for one in table.algorithm], dtype=object))
        moves = {(_at(one, name), size): move for (one, size), move in selection.get(name, {}).items()}
        own = seed if len(problems) == 1 else seed + place
        studies[name] = analyse(renamed, _at(reference, name), {}, draws, own, selection=moves)
    rows = [row for first, second in itertools.combinations(studies, 2) for row in _compared(studies, first, second)]
    summaries = {}
    for algorithm in dict.fromkeys(shared):
        found = [m for name, study in studies.items() if (m := _log_m(study, _at(algorithm, name))) is not None]
        if len(found) > 1:
            points_of, drawn = zip(*found, strict=True)
            summaries[algorithm] = random_effects(np.array(points_of), np.array([one.var() for one in drawn]))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"data_size": "Int64"})
    return Comparison(tuple(outcomes), reference, len(problems) == 1, table, summaries)


def random_effects(values: np.ndarray, variances: np.ndarray) -> Summary:
    """The summary of values with variances, each float64 [K], that lets true values differ.

    The variance between studies is that of Paule and Mandel (1982), at which the weighted sum of squares equals its
    expectation; the interval is that of Hartung, Knapp, Sidik and Jonkman, which holds with few studies (IntHout et al.
    2014, doi 10.1186/1471-2288-14-25). The prediction interval is that of Higgins et al. 2009 (doi
    10.1111/j.1467-985X.2008.00552.x). Raises ValueError for fewer than two, or a variance that is not above 0.
    """
    count = len(values)
    if count < 2 or not (variances > 0).all():
        raise ValueError(f"a summary needs two studies with variances above 0; there are {count}: {variances}.")
    between = _between(values, variances)
    weight = 1 / (variances + between)
    mean = float(np.average(values, weights=weight))
    spread = float((weight * (values - mean) ** 2).sum() / (count - 1))
    error = math.sqrt(max(spread, 1.0) / weight.sum())  # never smaller than if the variance between studies were known
    half = float(t.ppf(0.975, count - 1)) * error
    apart = float(t.ppf(0.975, count - 2)) * math.hypot(error, math.sqrt(between)) if count > 2 else math.inf
    return Summary(mean, mean - half, mean + half, between, mean - apart, mean + apart)


def _between(values: np.ndarray, variances: np.ndarray) -> float:
    def excess(between: float) -> float:
        weight = 1 / (variances + between)
        return float((weight * (values - np.average(values, weights=weight)) ** 2).sum()) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, float(np.ptp(values)) ** 2 * len(values)))


def _compared(studies: Mapping[str, Study], first: str, second: str) -> list[tuple[object, ...]]:
    ours, theirs = studies[first], studies[second]
    rows: list[tuple[object, ...]] = []
    for algorithm in (name.removesuffix(_at("", first)) for name in ours.outcomes.algorithms):
        one, other = _at(algorithm, first), _at(algorithm, second)
        if other not in theirs.outcomes.algorithms:
            continue
        for size in sorted(set(ours.outcomes.sizes_of(one)) & set(theirs.outcomes.sizes_of(other))):
            cell, against = ours.outcomes.index(one, size), theirs.outcomes.index(other, size)
            apart = float(ours.outcomes.errors[cell] - theirs.outcomes.errors[against])
            if ours.draws is not None and theirs.draws is not None:
                limits = percentile_interval(ours.draws[:, cell] - theirs.draws[:, against])
                rows.append(("difference in error", algorithm, size, first, second, apart, *limits))
        m, of_other = _log_m(ours, one), _log_m(theirs, other)
        if m is not None and of_other is not None:
            ratio = float(np.exp(m[0] - of_other[0]))
            limits = percentile_interval(np.exp(m[1] - of_other[1]))
            rows.append(("ratio of multipliers", algorithm, None, first, second, ratio, *limits))
    return rows


def _log_m(study: Study, algorithm: str) -> tuple[float, np.ndarray] | None:
    """The log of the single multiplier and its draws [B], if one number is given."""
    model = study.described(algorithm)
    return None if model is None else model.log_m


def _at(algorithm: str, sweep: str) -> str:
    return f"{algorithm} @ {sweep}"


def _short(folders: Sequence[Path]) -> list[str]:
    """The folders' names if these differ, else their paths."""
    resolved = [folder.resolve() for folder in folders]
    paths = [str(folder) for folder in folders]
    if len(set(resolved)) < len(paths):
        raise ResultsError(f"the same folder is named twice: {', '.join(paths)}.")
    names = [folder.name for folder in resolved]
    return names if len(set(names)) == len(names) else paths


def _show(found: Comparison, console: Console) -> None:
    how = "on the same test problems, paired" if found.paired else "on different test problems, each drawn on its own"
    console.print(f"{', '.join(found.names)}: {how}. 95 % intervals.", markup=False)
    table = Table("algorithm", "D", "first", "second", "first against second", box=None)
    for row in found.rows.itertuples():
        if row.what == "difference in error":
            shown = f"error {points(row.estimate)} ({points(row.low)} to {points(row.high)})"
        else:
            shown = f"m {number(row.estimate)} times ({number(row.low)} to {number(row.high)})"
        size = "all" if pd.isna(row.data_size) else f"{row.data_size:,}"
        table.add_row(Text(label(str(row.algorithm))), size, row.first, row.second, shown)
    console.print(table)
    for algorithm, item in found.summaries.items():
        m, low, high, least, most = np.exp(
            [item.mean, item.low, item.high, item.predicted_low, item.predicted_high]
        ).tolist()
        text = f"{label(algorithm)}: m over the sweeps {number(m)} ({number(low)} to {number(high)})"
        if np.isfinite(most):
            text += f"; another such sweep: {number(least)} to {number(most)}"
        console.print(f"{text}.", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
