"""What a design is judged by: the grid of a sweep, and the curve, multipliers and noise that are assumed for it.

In: a sweep with its plan, and the outcomes of a first run, if there was one. Out: `Grid`s and `Assumptions`. Without
a first run the curve is c + a D^-b through a stated error, and the claims are taken to be true.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.planner.simulation import Assumed, Noise, noise_of
from analysis.tables.outcomes import Outcomes, from_table
from analysis.tables.runs import label_axes, label_of, panel_axes, panel_of
from analysis.verdicts.claims import claim_of, value_of
from analysis.verdicts.study import analyse
from scaling.config.sweep import Sweep
from scaling.planning.plan import Plan

UNCLAIMED = 2.0  # multiplier assumed for an algorithm about which nothing is claimed or known
_LIMITS = (1e-3, 1 - 1e-3)  # of an assumed error
_DRAWS = 20  # of the first run's analysis, of which only the reference's curve is used


@dataclass(frozen=True)
class Grid:
    """What one panel of a sweep measures."""

    panel: str
    sizes: Mapping[str, tuple[int, ...]]  # algorithm, with the settings that vary -> data sizes
    num_seeds: int
    num_problems: int  # test problems


@dataclass(frozen=True)
class Assumptions:
    """The truth of the simulated studies."""

    curve: Callable[[np.ndarray], np.ndarray]  # data size of the reference -> error
    multipliers: Mapping[str, Assumed]
    item_sd: float  # of problem difficulty, in logits
    run_sd: float  # of run effects, in logits
    seed_share: float  # of the run effects' variance, common to the runs of a seed
    form: str  # of the curve
    source: str  # for readers: where all this comes from

    def noise(self, grid: Grid) -> Noise:
        return Noise(grid.num_seeds, grid.num_problems, self.item_sd, self.run_sd, self.seed_share)


@dataclass(frozen=True)
class Defaults:
    """A plausible truth to use without a first run."""

    floor: float = 0.02
    exponent: float = 0.35
    first_error: float = 0.8  # of the reference at its smallest size
    item_sd: float = Noise.item_sd
    run_sd: float | None = None  # of run effects; no value is plausible in general, so it is measured or given
    seed_share: float = Noise.seed_share


def grids_of(sweep: Sweep, plan: Plan) -> tuple[Grid, ...]:
    """One grid per panel, divided as a report on the sweep would be."""
    panel_keys, label_keys = panel_axes(sweep, plan), label_axes(sweep, plan)
    sizes: dict[str, dict[str, set[int]]] = {}
    problems: dict[str, int] = {}
    for run in plan.runs:
        panel, label = panel_of(run, panel_keys), label_of(run, label_keys[run.cell.algorithm])
        sizes.setdefault(panel, {}).setdefault(label, set()).add(run.cell.data_size)
        problems[panel] = run.cell.problems.num_test
    return tuple(
        Grid(
            panel,
            {name: tuple(sorted(found)) for name, found in of_panel.items()},
            len(sweep.seeds),
            problems[panel],
        )
        for panel, of_panel in sizes.items()
    )


def default_assumptions(
    grid: Grid, reference: str, claims: Mapping[str, float | str], defaults: Defaults
) -> Assumptions:
    """A power law through a plausible error, and every claim true."""
    if defaults.run_sd is None:
        raise ValueError("the spread of run effects is not given.")
    sizes = grid.sizes[reference]
    drop = defaults.first_error - defaults.floor

    def curve(size: np.ndarray) -> np.ndarray:
        return np.clip(defaults.floor + drop * (size / sizes[0]) ** -defaults.exponent, *_LIMITS)

    source = (
        f"an error of {defaults.floor:g} + a D^-{defaults.exponent:g} for the reference, which is"
        f" {100 * defaults.first_error:.0f} % at D = {sizes[0]:,} and therefore"
        f" {100 * curve(np.array(float(sizes[-1]))):.0f} % at D = {sizes[-1]:,}; every claim true"
    )
    multipliers = claimed_multipliers(grid, reference, claims)
    return Assumptions(curve, multipliers, defaults.item_sd, defaults.run_sd, defaults.seed_share, "pow3", source)


def claimed_multipliers(grid: Grid, reference: str, claims: Mapping[str, float | str]) -> dict[str, Assumed]:
    """The multipliers if every claim is true; the bound where only a bound is claimed."""
    claimed = {name: claim_of(name, claims) for name in grid.sizes}
    assumed = {name: UNCLAIMED if claim is None else float(value_of(claim)) for name, claim in claimed.items()}
    return {**assumed, reference: 1.0}


def first_run(directory: Path, panel: str) -> Outcomes | None:
    """The outcomes of one panel that a report on a first run left in its results directory."""
    file = directory / "outcomes.parquet"
    if not file.exists():
        return None
    table = pd.read_parquet(file)
    table = table[table["panel"].astype(str) == panel]
    return None if table.empty else from_table(table.astype({"algorithm": str, "problem": str}))


def stated_multipliers(directory: Path, panel: str) -> dict[str, Assumed]:
    """What the report on a first run says about each algorithm: one number, m at both ends of its sizes, or a bound."""
    file = directory / "fits.json"
    panels = json.loads(file.read_text(encoding="utf-8"))["panels"] if file.exists() else {}
    found: dict[str, Assumed] = {}
    for verdict in panels.get(panel, {}).get("verdicts", ()):
        points = [
            (point.get("data_size"), _stated(point)) for point in (verdict.get("headline") or {"points": ()})["points"]
        ]
        if points and all(0 < m < math.inf for _, m in points):
            of_sizes = tuple((int(size), m) for size, m in points if size is not None)
            found[verdict["algorithm"]] = of_sizes or points[0][1]
    return found


def _stated(point: Mapping[str, Any]) -> float:
    """The estimate, or the bound where the error leaves the reference's range."""
    m = float(point["estimate"])
    return float(point["low"]) if math.isinf(m) else m or float(point["high"])


def measured_assumptions(
    grid: Grid,
    reference: str,
    claims: Mapping[str, float | str],
    outcomes: Outcomes,
    stated: Mapping[str, Assumed],
    where: str,
) -> Assumptions | None:
    """The curve, multipliers and noise of a first run; None if it gives no curve.

    stated: the multipliers in its report.
    """
    study = analyse(outcomes, reference, {}, _DRAWS) if reference in outcomes.algorithms else None
    if study is None or study.curve is None:
        return None
    fit, design = study.curve

    def curve(size: np.ndarray) -> np.ndarray:
        error: np.ndarray = np.clip(fit.curve(np.log(size), 0, design)[0], *_LIMITS)
        return error

    multipliers = claimed_multipliers(grid, reference, claims)
    known = [name for name in multipliers if name in stated]
    multipliers |= {name: stated[name] for name in known}
    noise = noise_of(outcomes)
    form = fit.form
    source = (
        f"the first run in {where}: its curve ({form.name}), its multipliers and its noise, of"
        f" {len(outcomes.seeds)} seeds and {outcomes.num_problems:,} problems"
    )
    new = [name for name in multipliers if name not in known and name != reference]
    if new:
        source += f"; for what it did not run, the claim or else {UNCLAIMED:g}x: {', '.join(new)}"
    return Assumptions(curve, multipliers, noise.item_sd, noise.run_sd, noise.seed_share, form.name, source)


def with_claims(assumptions: Assumptions, grid: Grid, reference: str, claims: Mapping[str, float | str]) -> Assumptions:
    """The same assumptions, but with the claimed multipliers."""
    multipliers = claimed_multipliers(grid, reference, claims)
    return replace(assumptions, multipliers=multipliers, source=f"{assumptions.source}; but every claim true")
