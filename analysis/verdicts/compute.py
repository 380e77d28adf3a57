"""Multipliers in currencies other than problems: FLOPs, samples drawn, verifier calls.

In: a `Study` and what a run of each cell costs. Out: `ComputeMultiplier`s: how many times more of a currency the
reference needs for the same error. A run's cost is that of everything that it needs except the base policy and the
evaluation, from the ledger. Its FLOPs are those of training and generation (rollouts and continuations), plus its D
problems at the teacher's price, a parameter.

Let C(D) be the least cost of a reference run on D problems or more: a larger run counts if it is cheaper because fewer
epochs were selected for it. An algorithm that spends c at D and is worth m times the problems is worth C(m D) / c
times the currency. C never falls, so the limits of m become those of the multiplier. Between the reference's sizes C is
interpolated in logs; beyond them the cost per problem is that of the nearest size.

The algorithm needs D problems and costs c, the reference m D problems and C(m D). So each of the (m - 1) D problems
that the algorithm saves costs (c - C(m D)) / ((m - 1) D) of the currency. In FLOPs this is the break-even price of a
problem, above which the algorithm is cheaper; 0 means that it is cheaper at any price.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.multipliers.estimates import Multiplier
from analysis.verdicts.evidence import MAX_EXTRAPOLATION
from analysis.verdicts.study import Study

FLOPS = "flops"
CURRENCIES: Mapping[str, tuple[str, ...]] = {  # name -> the columns of runs.csv that add up to it
    FLOPS: ("training_flops", "generation_flops"),
    "samples": ("samples",),
    "verifier_calls": ("verifier_calls",),
}
Costs = Mapping[tuple[str, int], float]  # (algorithm, data size) -> cost of one run


@dataclass(frozen=True)
class ComputeMultiplier:
    """One estimate with its 95 % interval; 0 and inf where the error leaves the reference's range."""

    algorithm: str
    kind: str  # "pointwise", or "overall": from the one number for all sizes, at the algorithm's largest size
    currency: str
    data_size: int
    cost: float  # of one run at that size
    estimate: float  # NaN, like its limits, if the algorithm or the reference spends nothing
    low: float
    high: float
    extrapolation: float  # m D over the reference's largest size; above 1 it relies on the cost per problem there
    break_even: float  # cost of each problem saved; NaN unless m is above 1


def costs_by_cell(runs: pd.DataFrame, panel: str) -> dict[str, dict[tuple[str, int], float]]:
    """Currency -> mean cost of a finished run of every cell of one panel.

    A currency in which any cost is unknown is absent: missing costs are never filled in.
    """
    done = runs[(runs["panel"] == panel) & (runs["status"] == "done")]
    found = {}
    for currency, columns in CURRENCIES.items():
        if done.empty or not set(columns) <= set(done.columns):
            continue
        spent = done[list(columns)].sum(axis=1, skipna=False)
        if (spent > 0).all() if currency == FLOPS else spent.notna().all():
            means = spent.groupby([done["algorithm"], done["data_size"]]).mean()
            found[currency] = {(str(name), int(size)): float(value) for (name, size), value in means.items()}
    return found


def compute_multipliers(
    study: Study, costs: Mapping[str, Costs], problem_flops: float = 0.0
) -> tuple[ComputeMultiplier, ...]:
    """The point-wise multipliers in every currency, and the overall ones at the largest size if one number is given.

    costs: of one run of each cell, by currency; problem_flops: the teacher's price of a problem. Multipliers that need
    more than four times the reference's data are left out.
    """
    asked = [(item, item.data_size) for item in study.multipliers if item.data_size is not None]
    farthest = MAX_EXTRAPOLATION * max(study.outcomes.sizes_of(study.reference), default=0)
    for item in study.multipliers:
        largest = max(study.sizes_of(item.algorithm))
        if item.kind == "overall" and item.estimate * largest <= farthest:
            asked.append((item, largest))
    return tuple(
        _priced(*one, currency, of_cells, study.reference, problem_flops if currency == FLOPS else 0.0)
        for currency, of_cells in costs.items()
        for one in asked
    )


def overall_compute(multipliers: tuple[ComputeMultiplier, ...], algorithm: str) -> ComputeMultiplier | None:
    """An algorithm's overall multiplier per FLOP, if it has one."""
    wanted = (algorithm, "overall", FLOPS)
    return next((item for item in multipliers if (item.algorithm, item.kind, item.currency) == wanted), None)


def reference_cost(of_reference: Mapping[int, float], size: float) -> float:
    """C(D) at any size, from the costs of the sizes that were run; it never falls with D."""
    sizes = sorted(of_reference)
    least = np.minimum.accumulate([of_reference[known] for known in reversed(sizes)])[::-1]
    if least[0] == 0:
        return 0.0 if least[-1] == 0 else np.nan  # no logarithm
    inside = min(max(size, sizes[0]), sizes[-1])
    return float(size / inside * np.exp(np.interp(np.log(inside), np.log(sizes), np.log(least))))


def _priced(
    item: Multiplier, size: int, currency: str, costs: Costs, reference: str, price: float
) -> ComputeMultiplier:
    """One multiplier at a size, in a currency. price: of a problem, in that currency."""
    of_reference = {known: value for (name, known), value in costs.items() if name == reference}
    own, m = costs[item.algorithm, size], item.estimate

    def theirs(problems: float) -> float:
        return reference_cost(of_reference, problems) + price * problems

    spent = own + price * size
    is_free = spent == 0 or max(of_reference.values()) + price == 0
    estimate, low, high = (
        np.nan if is_free else one if one == 0 or np.isinf(one) else theirs(one * size) / spent
        for one in (item.estimate, item.low, item.high)
    )
    more = own - reference_cost(of_reference, m * size) if 1 < m < np.inf else np.nan
    break_even = max(more, 0.0) / ((m - 1) * size) if 1 < m < np.inf else np.nan
    reach = m * size / max(of_reference)
    named = (item.algorithm, item.kind, currency, size)
    return ComputeMultiplier(*named, spent, estimate, low, high, reach, float(break_even))
