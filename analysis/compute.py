"""Multipliers per FLOP: how many times more compute the reference needs for the same error.

In: a `Study` and what a run of each cell costs. Out: `ComputeMultiplier`s. A run's compute is the training and the
generation (rollouts and continuations) of everything that it needs but the base policy, from the ledger.

With C(D) the compute of a reference run, an algorithm that spends c at D and is worth m times the problems is worth
C(m D) / c times the compute. This grows with m, so the limits of m become those of the compute multiplier. Between the
reference's sizes C is interpolated in logs; beyond them the compute per problem is that of the nearest size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.study import Study

COLUMNS = ("algorithm", "kind", "data_size", "flops", "estimate", "low", "high")


@dataclass(frozen=True)
class ComputeMultiplier:
    """One estimate with its 95 % interval; 0 and inf where the error leaves the reference's range."""

    algorithm: str
    kind: str  # "pointwise", or "overall": the geometric mean over sizes under the joint fit's one m
    data_size: int | None  # None but for a point-wise one
    flops: float  # of one run; the geometric mean over sizes for an overall one
    estimate: float
    low: float
    high: float


def flops_by_cell(runs: pd.DataFrame, panel: str) -> dict[tuple[str, int], float]:
    """(algorithm, data size) -> mean training and generation FLOPs of a finished run of one panel."""
    done = runs[(runs["panel"] == panel) & (runs["status"] == "done")]
    if done.empty:
        return {}
    total = (done["training_flops"] + done["generation_flops"]).groupby([done["algorithm"], done["data_size"]]).mean()
    return {(str(name), int(size)): float(value) for (name, size), value in total.items()}


def compute_multipliers(study: Study, flops: Mapping[tuple[str, int], float]) -> tuple[ComputeMultiplier, ...]:
    """The study's point-wise and overall multipliers, per FLOP."""
    of_reference = {size: value for (name, size), value in flops.items() if name == study.reference}
    found = []
    for item in study.multipliers:
        if item.kind == "pointwise":
            sizes = [item.data_size]
        elif item.kind == "overall":
            sizes = study.outcomes.data_size[study.outcomes.cells_of(item.algorithm)].tolist()
        else:
            continue
        own = np.array([flops[item.algorithm, size] for size in sizes])
        estimate, low, high = (
            _compute_ratio(m, np.array(sizes, dtype=float), own, of_reference)
            for m in (item.estimate, item.low, item.high)
        )
        spent = float(np.exp(np.log(own).mean()))
        found.append(ComputeMultiplier(item.algorithm, item.kind, item.data_size, spent, estimate, low, high))
    return tuple(found)


def overall_compute(multipliers: tuple[ComputeMultiplier, ...], algorithm: str) -> ComputeMultiplier | None:
    """An algorithm's one compute multiplier, where there is one."""
    return next((item for item in multipliers if item.kind == "overall" and item.algorithm == algorithm), None)


def compute_table(multipliers: tuple[ComputeMultiplier, ...]) -> pd.DataFrame:
    """One row each, for compute_multipliers.csv."""
    table = pd.DataFrame([vars(item) for item in multipliers], columns=list(COLUMNS))
    return table.astype({"data_size": "Int64"})


def reference_flops(of_reference: Mapping[int, float], size: np.ndarray) -> np.ndarray:
    """C(D) at any sizes, from the compute of the sizes that were run."""
    at = np.log(np.array(sorted(of_reference), dtype=float))
    per_problem = np.log([of_reference[known] / known for known in sorted(of_reference)])
    return size * np.exp(np.interp(np.log(size), at, per_problem))


def _compute_ratio(m: float, sizes: np.ndarray, own: np.ndarray, of_reference: Mapping[int, float]) -> float:
    if m == 0 or np.isinf(m):
        return float(m)
    return float(np.exp(np.mean(np.log(reference_flops(of_reference, m * sizes) / own))))
