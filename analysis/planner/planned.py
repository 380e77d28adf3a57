"""What the planner plans: every panel of a sweep, with the truth that is assumed for it.

In: the command's arguments and the sweep. Out: `Planned` panels. A first run is used if it had the same task:
a change of seeds, sizes, test problems or claims leaves its curve valid, a change of any other setting does not.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.fitting.bootstrap import MIN_SEEDS
from analysis.fitting.forms import FORMS
from analysis.planner.assumptions import (
    Assumptions,
    Defaults,
    Grid,
    default_assumptions,
    first_run,
    grids_of,
    measured_assumptions,
    stated_multipliers,
    with_claims,
)
from analysis.planner.simulation import luck_sd, noise_of
from analysis.tables.outcomes import from_table
from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine.results_dir import results_dir
from scaling.paths import shown
from scaling.planning.plan import plan

MIN_SIZES = FORMS["pow2"].min_sizes
NOISES = (0.5, 1.0, 2.0, 4.0)  # run noise over luck, of --by-noise
_SAME_TASK = ("seeds", "grid", "analysis", "problems.num_test", "select")  # what may change without changing the curve


@dataclass(frozen=True)
class Planned:
    """One panel of a sweep and what is assumed for it."""

    grid: Grid
    assumptions: Assumptions
    is_measured: bool  # whether a first run gave the curve


def panels_of(arguments: argparse.Namespace, sweep: Sweep) -> list[Planned]:
    """Every panel, with the first run's curve, multipliers and noise where there is one, else stated defaults."""
    reference, claims = sweep.analysis.reference, sweep.analysis.claims
    if len(sweep.seeds) < MIN_SEEDS:
        raise ConfigError(
            f"{arguments.file}: seeds has {len(sweep.seeds)} of the {MIN_SEEDS} that an interval needs; add seeds."
        )
    if arguments.floor >= arguments.error or arguments.exponent <= 0:
        raise ConfigError(
            f"--floor {arguments.floor:g}, --error {arguments.error:g}, --exponent {arguments.exponent:g}: the error"
            " falls with data, so the floor lies below the error at the smallest size and the exponent above 0."
        )
    defaults = _defaults(arguments)
    folder = first_run_folder(arguments, sweep)
    found = []
    for grid in grids_of(sweep, plan(sweep, lambda stage: None)):
        if reference not in grid.sizes or len(grid.sizes) == 1:
            raise ConfigError(
                f"{arguments.file}: the grid runs {', '.join(grid.sizes)}; a multiplier needs the reference {reference}"
                " and another algorithm."
            )
        if len(grid.sizes[reference]) < MIN_SIZES:
            raise ConfigError(
                f"{arguments.file}: {reference} runs at {len(grid.sizes[reference])} of the {MIN_SIZES} data sizes that"
                " a curve needs; add sizes."
            )
        outcomes = None if arguments.truth == "defaults" else first_run(folder, grid.panel)
        measured = None
        if outcomes is not None:
            stated = stated_multipliers(folder, grid.panel)
            measured = measured_assumptions(grid, reference, claims, outcomes, stated, shown(folder))
        if measured is None and defaults.run_sd is None:
            raise ConfigError(
                f"{arguments.file}: what a grid can show depends on how much runs differ, and no first run shows that."
                " Give --run-sd, the standard deviation of run effects in logits (.06 to .14 in the sweeps of this"
                " repository, .3 and more where training is unsteady), --noise-from results/NAME for that of its runs,"
                " or --by-noise, which tries several."
            )
        if measured is None:
            found.append(Planned(grid, default_assumptions(grid, reference, claims, defaults), False))
        elif arguments.truth == "claims":
            found.append(Planned(grid, with_claims(measured, grid, reference, claims), True))
        else:
            found.append(Planned(grid, measured, True))
    return found


def by_noise(item: Planned, reference: str) -> list[Planned]:
    """The panel at several run noises over luck, which decide how far intervals can be narrowed, and by what."""
    grid, assumptions = item.grid, item.assumptions
    errors = assumptions.curve(np.array(grid.sizes[reference], float))
    luck = luck_sd(errors, grid.num_problems, assumptions.item_sd)
    found = []
    for ratio in NOISES:
        name = ", ".join(filter(None, (grid.panel, f"run noise over luck {ratio:g}")))
        found.append(Planned(replace(grid, panel=name), replace(assumptions, run_sd=ratio * luck), item.is_measured))
    return found


def _defaults(arguments: argparse.Namespace) -> Defaults:
    """The defaults that the options give, with the noise of another sweep's runs if they name one."""
    given = Defaults(arguments.floor, arguments.exponent, arguments.error, arguments.item_sd, arguments.run_sd)
    if arguments.by_noise and arguments.run_sd is None:
        given = replace(given, run_sd=0.0)  # replaced by that of each regime
    if arguments.noise_from is None:
        return given
    file = arguments.noise_from / "outcomes.parquet"
    if not file.exists():
        raise ConfigError(f"--noise-from {arguments.noise_from}: there is no outcomes.parquet; name results/NAME.")
    table = pd.read_parquet(file)
    first = table[table["panel"] == table["panel"].iloc[0]].astype({"algorithm": str, "problem": str})
    noise = noise_of(from_table(first))
    run_sd = noise.run_sd if arguments.run_sd is None else arguments.run_sd
    return replace(given, item_sd=noise.item_sd, run_sd=run_sd, seed_share=noise.seed_share)


def first_run_folder(arguments: argparse.Namespace, sweep: Sweep) -> Path:
    """The results of the same sweep, or those of the file without overrides if these leave its task unchanged."""
    folder = results_dir(arguments.file, arguments.set, sweep, arguments.out)
    if arguments.out is not None:
        return folder
    keys = [override.partition("=")[0] for override in arguments.set]
    same_task = all(any(f"{key}.".startswith(f"{prefix}.") for prefix in _SAME_TASK) for key in keys)
    if not (folder / "outcomes.parquet").exists() and same_task:
        return results_dir(arguments.file, [], sweep)
    return folder


def why_not_measured(arguments: argparse.Namespace, sweep: Sweep) -> str:
    """Why no first run gives a curve."""
    if arguments.truth == "defaults":
        return "--truth defaults ignores it; leave that out."
    folder = first_run_folder(arguments, sweep)
    if (folder / "outcomes.parquet").exists():
        return f"that in {shown(folder)} gives none: see its report."
    return f"there is none; run python -m scaling.sweep {arguments.file} first."
