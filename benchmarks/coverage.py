"""How often the intervals hold the truth, in simulated studies: `python -m benchmarks.coverage`, a few minutes.

Truth: error c + a x^-b with c = .15, a = .5, b = .25; four algorithms with m = 1, 2, 2.5, 8; five sizes over 16x; 500
shared problems of difficulty sd 2.0 and runs of sd .12, in logits. Every scheme fits the same form to the same data and
differs in what it resamples. Writes the table into docs/coverage.md; its numbers depend on the seed only.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.fitting.bootstrap import Draws, crossed_bootstrap
from analysis.fitting.fits import Fit, by_qaicc, fit_point, fit_replicates
from analysis.fitting.forms import FORMS
from analysis.multipliers.estimates import two_way
from analysis.multipliers.model import design_of
from analysis.planner.simulation import Noise, simulate
from analysis.tables.outcomes import Outcomes

MULTIPLIERS = {"reference": 1.0, "two": 2.0, "two and a half": 2.5, "eight": 8.0}
SIZES = (64, 128, 256, 512, 1024)
SEED_COUNTS = (3, 4)
SEED_SHARES = (0.0, 0.5)  # of the run effect's variance, common to a seed's runs
SCHEMES = (
    "problems only",
    "runs only",
    "runs only, times sqrt(R / (R - 1))",
    "**crossed: shared problems x seeds**",
    "two-way, normal",
    "crossed, form chosen by QAICc",
    "crossed, each algorithm by itself (unpaired)",
)
LIMITS = {3: (0.77, 1.13), 4: (0.69, 1.02)}  # widths of the crossed interval in the study this one repeats


@dataclass(frozen=True)
class Tally:
    """One scheme in all studies of one setting."""

    covered: np.ndarray  # bool [studies, 3]
    width: np.ndarray  # float64 [studies, 3], log2 of the upper limit over the lower
    gap: np.ndarray  # float64 [studies, 3], log2 of the estimate over the truth


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=150, help="simulated studies for each setting")
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws for each interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    arguments = parser.parse_args(argv)
    tables = []
    for share in SEED_SHARES:
        found = {count: run(count, share, arguments.studies, arguments.draws, arguments.seed) for count in SEED_COUNTS}
        tables.append(table(share, found))
    text = document(arguments.studies, arguments.draws, arguments.seed, tables)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


def run(num_seeds: int, share: float, num_studies: int, num_draws: int, seed: int) -> dict[str, Tally]:
    """Every scheme on the same simulated studies."""
    rows: dict[str, list] = {scheme: [] for scheme in SCHEMES}
    noise = Noise(num_seeds=num_seeds, seed_share=share)
    for study in range(num_studies):
        generator = np.random.default_rng([seed, num_seeds, round(100 * share), study])
        outcomes = simulate(MULTIPLIERS, SIZES, lambda size: 0.15 + 0.5 * (size / 256) ** -0.25, noise, generator)
        for scheme, interval in intervals(outcomes, num_draws, seed + study).items():
            rows[scheme].append(interval)
    truth = np.log2(list(MULTIPLIERS.values())[1:])
    tallies = {}
    for scheme, found in rows.items():
        low, estimate, high = np.log2(np.array(found)).transpose(1, 0, 2)
        tallies[scheme] = Tally((low <= truth) & (truth <= high), high - low, estimate - truth)
    return tallies


def intervals(outcomes: Outcomes, num_draws: int, seed: int) -> dict[str, np.ndarray]:
    """scheme -> (low, estimate, high) of every multiplier, float64 [3, 3]."""
    errors, num_seeds = outcomes.errors, len(outcomes.seeds)
    names = list(outcomes.algorithms)
    design = design_of(outcomes, names, errors)
    draws = crossed_bootstrap(outcomes, num_draws, seed)
    point = fit_point(design, errors, FORMS["pow3"], "H1")
    shrunk = errors + (draws.seeds_only - errors) * np.sqrt((num_seeds - 1) / num_seeds)
    kinds = [draws.problems_only, shrunk, draws.seeds_only, draws.crossed]
    fits = [fit_replicates(design, drawn, point) for drawn in kinds]
    found = {scheme: percentile(point, fit) for scheme, fit in zip(SCHEMES, fits, strict=False)}
    of_problems, _, of_seeds, crossed = fits
    normal = []
    for arm in range(1, design.num_arms):
        m = float(np.exp(point.log_multiplier(arm)[0]))
        log_ms = (fit.log_multiplier(arm) for fit in (crossed, of_problems, of_seeds))
        low, high = two_way(m, *log_ms, num_seeds)
        normal.append((low, m, high))
    found[SCHEMES[4]] = np.array(normal).T
    chosen = by_qaicc([point, fit_point(design, errors, FORMS["pow2"], "H1")], len(errors))[0][1]
    same = chosen.form.name == point.form.name
    found[SCHEMES[5]] = found[SCHEMES[3]] if same else percentile(chosen, fit_replicates(design, draws.crossed, chosen))
    found[SCHEMES[6]] = percentile(point, fit_replicates(design, unpaired(outcomes, num_draws, seed).crossed, point))
    return found


def percentile(point: Fit, replicates: Fit) -> np.ndarray:
    """(low, estimate, high) of every multiplier, float64 [3, K]."""
    num_arms = point.num_parameters - point.form.num_parameters + 1
    drawn = np.stack([replicates.log_multiplier(arm) for arm in range(1, num_arms)])
    estimate = np.array([point.log_multiplier(arm)[0] for arm in range(1, num_arms)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    return np.exp(np.stack([low, estimate, high]))


def unpaired(outcomes: Outcomes, num_draws: int, seed: int) -> Draws:
    """As if every algorithm had been tested on problems and seeds of its own."""
    parts = []
    for index, name in enumerate(outcomes.algorithms):
        cells = outcomes.cells_of(name)
        one = Outcomes(
            *(outcomes.algorithm[cells], outcomes.data_size[cells], outcomes.seeds, outcomes.problems),
            *(outcomes.wrong[cells], outcomes.present[cells]),
        )
        parts.append(crossed_bootstrap(one, num_draws, 1000 * (index + 1) + seed))
    return Draws(*(np.concatenate([getattr(part, kind) for part in parts], axis=1) for kind in Draws.__annotations__))


def table(share: float, found: dict[int, dict[str, Tally]]) -> str:
    """One setting in Markdown."""
    how = "independent" if share == 0 else f"correlated within a seed ({100 * share:.0f} % of their variance is common)"
    columns = [f"R = {count}: coverage | median width" for count in found]
    lines = [f"## Run effects {how}", "", f"| scheme | {' | '.join(columns)} |", "|---" * (1 + 2 * len(found)) + "|"]
    for scheme in SCHEMES:
        cells = []
        for tallies in found.values():
            tally = tallies[scheme]
            widths = np.median(tally.width, axis=0)
            cells.append(" ".join(f"{value:.2f}".lstrip("0") for value in tally.covered.mean(axis=0)))
            cells.append(f"{widths.min():.2f} to {widths.max():.2f}")
        lines.append(f"| {scheme} | {' | '.join(cells)} |")
    lines.append("")
    for count, tallies in found.items():  # a list, so that Markdown keeps them apart
        tally = tallies[SCHEMES[3]]
        bias, spread = tally.gap.mean(axis=0), tally.gap.std(axis=0, ddof=1)
        widths, limits = np.median(tally.width, axis=0), LIMITS[count]
        ratio = max(widths.min() / limits[0], widths.max() / limits[1])
        lines.append(
            f"- R = {count}: the crossed interval holds the truth in {100 * tally.covered.mean():.1f} % of"
            f" {tally.covered.size} cases; mean error of log2 m {', '.join(f'{value:+.3f}' for value in bias)}, its sd"
            f" {', '.join(f'{value:.2f}' for value in spread)}; widest against the expected {limits[0]} to {limits[1]}:"
            f" {ratio:.2f} times."
        )
    return "\n".join([*lines, ""])


def document(num_studies: int, num_draws: int, seed: int, tables: Sequence[str]) -> str:
    """docs/coverage.md."""
    shown = f"python -m benchmarks.coverage --studies {num_studies} --draws {num_draws} --seed {seed}"
    margin = 100 * np.sqrt(0.95 * 0.05 / num_studies)
    head = f"""# Coverage of the 95 % intervals

Written by `{shown}`, in a few minutes on one core; the numbers
depend on the seed, not on the machine. {num_studies} simulated studies for each setting: four algorithms with
multipliers 1, 2, 2.5 and 8 of one curve c + a D^-b, five sizes over 16x, 500 shared problems. Coverage is given for the
multipliers 2, 2.5 and 8 in this order, to {margin:.1f} points (one standard error); widths in log2 units: 1 is a factor
of 2.

Resampling problems alone, the usual practice, covers too little: it takes the few runs for all there could be. The
crossed interval is the one that reports give. The two-way one is printed beside it. Without pairing, half of the
precision is lost.
"""
    return "\n".join([head, *tables])


if __name__ == "__main__":
    main()
