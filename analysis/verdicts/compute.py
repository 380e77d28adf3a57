"""Multipliers per FLOP: how many times more compute the reference needs for the same error.

In: a `Study` and what a run of each cell costs. Out: `ComputeMultiplier`s. A run's compute is the training and the
generation (rollouts and continuations) of everything that it needs except the base policy, from the ledger.

Let C(D) be the least compute of a reference run on D problems or more: where a larger run is cheaper, because fewer
epochs were selected for it, it counts. An algorithm that spends c at D and is worth m times the problems is worth
C(m D) / c times the compute. C never falls, so the limits of m become those of the compute multiplier. Between the
reference's sizes C is interpolated in logs; beyond them the compute per problem is that of the end.

A synthetic problem has a price too. The algorithm needs D of them and c FLOPs, the reference m D and C(m D). So the
algorithm is cheaper if a problem costs more than (c - C(m D)) / ((m - 1) D) FLOPs, the break-even price. 0: it is
cheaper at any price.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.verdicts.evidence import MAX_EXTRAPOLATION
from analysis.verdicts.study import Study

COLUMNS = ("algorithm", "kind", "data_size", "flops", "estimate", "low", "high", "extrapolation", "break_even")


@dataclass(frozen=True)
class ComputeMultiplier:
    """One estimate with its 95 % interval; 0 and inf where the error leaves the reference's range."""

    algorithm: str
    kind: str  # "pointwise", or "overall": from the one number for all sizes, at the algorithm's largest size
    data_size: int
    flops: float  # of one run at that size
    estimate: float
    low: float
    high: float
    extrapolation: float  # m D over the reference's largest size; above 1 it relies on the cost per problem there
    break_even: float  # FLOPs that a synthetic problem must cost for both to cost the same; NaN unless m is above 1


def flops_by_cell(runs: pd.DataFrame, panel: str) -> dict[tuple[str, int], float]:
    """(algorithm, data size) -> mean training and generation FLOPs of a finished run of one panel.

    Empty if any cost is unknown: missing costs are never filled in.
    """
    done = runs[(runs["panel"] == panel) & (runs["status"] == "done")]
    if done.empty:
        return {}
    spent = done["training_flops"] + done["generation_flops"]
    if not (spent > 0).all():
        return {}
    total = spent.groupby([done["algorithm"], done["data_size"]]).mean()
    return {(str(name), int(size)): float(value) for (name, size), value in total.items()}


def compute_multipliers(study: Study, flops: Mapping[tuple[str, int], float]) -> tuple[ComputeMultiplier, ...]:
    """The point-wise multipliers per FLOP, and the overall ones at the largest size if one number is given.

    flops: of one run of each cell. Multipliers that need more than four times the reference's data are left out.
    """
    of_reference = {size: value for (name, size), value in flops.items() if name == study.reference}
    found = []
    for item in study.multipliers:
        if item.kind == "pointwise":
            assert item.data_size is not None
            m = (item.estimate, item.low, item.high)
            found.append(_priced(item.algorithm, item.kind, item.data_size, m, flops, of_reference))
    for verdict in study.verdicts:
        overall = study.overall(verdict.algorithm)
        if overall is None:
            continue
        largest = study.sizes_of(verdict.algorithm)[-1]
        if overall.estimate * largest <= MAX_EXTRAPOLATION * max(of_reference):
            m = (overall.estimate, overall.low, overall.high)
            found.append(_priced(verdict.algorithm, "overall", largest, m, flops, of_reference))
    return tuple(found)


def overall_compute(multipliers: tuple[ComputeMultiplier, ...], algorithm: str) -> ComputeMultiplier | None:
    """An algorithm's overall compute multiplier, if it has one."""
    return next((item for item in multipliers if item.kind == "overall" and item.algorithm == algorithm), None)


def compute_table(multipliers: tuple[ComputeMultiplier, ...]) -> pd.DataFrame:
    """One row each, for compute_multipliers.csv."""
    return pd.DataFrame([vars(item) for item in multipliers], columns=list(COLUMNS))


def reference_flops(of_reference: Mapping[int, float], size: float) -> float:
    """C(D) at any size, from the compute of the sizes that were run; it never falls with D."""
    sizes = sorted(of_reference)
    least = np.minimum.accumulate([of_reference[known] for known in reversed(sizes)])[::-1]
    inside = min(max(size, sizes[0]), sizes[-1])
    return float(size / inside * np.exp(np.interp(np.log(inside), np.log(sizes), np.log(least))))


def _priced(
    algorithm: str,
    kind: str,
    size: int,
    multipliers: tuple[float, float, float],
    flops: Mapping[tuple[str, int], float],
    of_reference: Mapping[int, float],
) -> ComputeMultiplier:
    """multipliers: estimate, low and high of m."""
    own = flops[algorithm, size]
    estimate, low, high = (
        m if m == 0 or np.isinf(m) else reference_flops(of_reference, m * size) / own for m in multipliers
    )
    m, reach = multipliers[0], multipliers[0] * size / max(of_reference)
    saved = (m - 1) * size  # problems
    more = own - reference_flops(of_reference, m * size) if 1 < m < np.inf else np.nan  # FLOPs
    break_even = max(more, 0.0) / saved if saved > 0 else np.nan
    return ComputeMultiplier(algorithm, kind, size, own, estimate, low, high, reach, float(break_even))
