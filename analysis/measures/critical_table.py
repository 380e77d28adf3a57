"""Q by step index and around the first pit, of every algorithm on the same wrong traces.

In: a plan and its store. Out: one row for each (panel, algorithm, data size, measure, place): the mean over traces with
its 95 % interval, and the difference to the reference on the same traces with its own. Intervals resample whole seeds
crossed with test problems, as those of errors do. docs/results.md explains the columns.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.fitting.bootstrap import MIN_SEEDS
from analysis.tables.runs import label_axes, label_of, of_critical_steps, panel_axes, panel_of
from scaling.config.sweep import Sweep
from scaling.engine.store import Store
from scaling.planning.plan import Plan

COLUMNS = (
    *("panel", "algorithm", "data_size", "measure", "at", "num_seeds", "num_problems", "num_traces"),
    *("mean", "low", "high", "difference", "difference_low", "difference_high"),
)


def traces_of(sweep: Sweep, plan: Plan, store: Store) -> pd.DataFrame:
    """Every measured step of every run: panel, algorithm, data_size, seed and the columns of its artifact."""
    panel_keys = panel_axes(sweep, plan, of_critical_steps)
    label_keys = label_axes(sweep, plan, of_critical_steps)
    parts, seen = [], set()
    for run in plan.settled:
        label = label_of(run, label_keys[run.cell.algorithm])
        name = (panel_of(run, panel_keys), label, run.cell.data_size, run.seed)
        path = None if run.measured is None else store.checked(run.measured)
        if path is None or name in seen:
            continue
        seen.add(name)
        table = pd.read_parquet(path / "critical_steps.parquet")
        columns = dict(zip(("panel", "algorithm", "data_size", "seed"), name, strict=True))
        parts.append(table.assign(**columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def critical_table(traces: pd.DataFrame, reference: str, num_draws: int, seed: int) -> pd.DataFrame:
    """The summary; empty if nothing was measured."""
    if traces.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = []
    for (panel, size), group in traces.groupby(["panel", "data_size"], sort=False):
        draws = _Draws(group, num_draws, seed)
        for measure, places in _measures(group).items():
            for at, part in places.groupby("at", sort=True):
                of_reference = part[part["algorithm"] == reference]
                compared = draws.means(of_reference) if len(of_reference) else None
                for algorithm in dict.fromkeys(group["algorithm"]):
                    own = part[part["algorithm"] == algorithm]
                    if own.empty:
                        continue
                    counts = (own["seed"].nunique(), own["problem"].nunique(), len(own))
                    found = draws.means(own)
                    numbers: tuple[float, ...] = _with_limits(found, draws.has_limits)
                    if compared is not None and algorithm != reference:
                        numbers += _with_limits(found - compared, draws.has_limits)
                    else:
                        numbers += (np.nan,) * 3
                    rows.append((panel, algorithm, size, measure, at, *counts, *numbers))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measures(group: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Measure -> its values and their places: step index, steps from the first pit, or one place per trace."""
    once = group.drop_duplicates(["algorithm", "seed", "problem", "sample"])
    return {
        "q_value": group.assign(at=group["step"], value=group["q_value"]),
        "q_value_from_pit": group.assign(at=group["step"] - group["pit"], value=group["q_value"]),
        "pit_probability": once.assign(at=0, value=once["pit_probability"]),
    }


class _Draws:
    """Weights of seeds and problems, the same for every algorithm and place of a data size; draw 0 is the data."""

    def __init__(self, group: pd.DataFrame, num_draws: int, seed: int) -> None:
        generator = np.random.default_rng([seed, 0xC517])
        self._seeds, self._problems = (pd.Index(sorted(set(group[name]))) for name in ("seed", "problem"))
        self.has_limits = len(self._seeds) >= MIN_SEEDS
        self._seed_weights, self._problem_weights = (
            np.vstack([np.ones(count), generator.multinomial(count, np.full(count, 1 / count), size=num_draws)])
            for count in (len(self._seeds), len(self._problems))
        )

    def means(self, part: pd.DataFrame) -> np.ndarray:
        """float64 [1 + B]: the mean over traces, then that of every draw; NaN where a draw has none of them."""
        rows, columns = self._seeds.get_indexer(part["seed"]), self._problems.get_indexer(part["problem"])
        shape = (len(self._seeds), len(self._problems))
        sums, counts = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, (rows, columns), part["value"].to_numpy(float))
        np.add.at(counts, (rows, columns), 1.0)
        total, number = (
            ((self._seed_weights @ matrix) * self._problem_weights).sum(axis=1) for matrix in (sums, counts)
        )
        means: np.ndarray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
        return means


def _with_limits(means: np.ndarray, has_limits: bool) -> tuple[float, float, float]:
    """The first mean, and the 95 % percentile interval of the others; no limits from fewer than three seeds."""
    if not has_limits:
        return float(means[0]), np.nan, np.nan
    low, high = np.nanpercentile(means[1:], [2.5, 97.5])
    return float(means[0]), float(low), float(high)
