"""How runs change along an axis other than data: rounds, or correct traces per problem.

In: the table of runs. Out: one row for each (trend, panel, algorithm, data size, place on the axis, measure), the mean
over seeds with its 95 % t interval; no rows if the sweep has no such axis. docs/results.md explains the columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t

from analysis.fitting.bootstrap import MIN_SEEDS

COLUMNS = ("trend", "panel", "algorithm", "data_size", "at", "measure", "num_runs", "mean", "low", "high")
_CELL = ["panel", "algorithm", "data_size", "at"]


@dataclass(frozen=True)
class Trend:
    """An axis, and what is measured along it."""

    name: str  # of its figure's file
    title: str
    axis: str  # what readers call it
    keys: Mapping[str, str]  # algorithm -> its dotted key or column of the runs; "" stands for every other algorithm
    measures: Mapping[str, str]  # column of the runs -> what readers call it; shown where it was measured


ROUNDS = Trend(
    "rounds",
    "Round by round",
    "rounds; 0: SFT",
    {"": "rounds"},
    {
        "error": "test error",
        "distinct_fraction": "different among right completions",
        "spurious_fraction": "right completions with a spurious step",
        "misconception_fraction": "misconceptions among wrong facts",
    },
)
TRACES = Trend(
    "traces",
    "Error by traces per problem",
    "self-generated traces per problem, at most",
    {"rft": "rft.max_positives", "step_rft": "step_rft.traces_per_problem"},
    {
        "error": "test error",
        "spurious_step_fraction": "spurious steps among learned ones",
        "spurious_fraction": "right completions with a spurious step",
    },
)
TRENDS = (ROUNDS, TRACES)


def trend_table(runs: pd.DataFrame) -> pd.DataFrame:
    """All trends of a sweep's runs, in the order of its axes' values."""
    done = runs[runs["status"] == "done"].copy()
    if {"num_spurious_steps", "num_learned_steps"} <= set(done.columns):
        learned = done["num_learned_steps"].where(done["num_learned_steps"] > 0)
        done["spurious_step_fraction"] = done["num_spurious_steps"] / learned
    table = pd.DataFrame([row for trend in TRENDS for row in _rows(trend, done)], columns=list(COLUMNS))
    return table.astype(dict.fromkeys(("mean", "low", "high"), float))


def _rows(trend: Trend, runs: pd.DataFrame) -> list[tuple[object, ...]]:
    placed = _placed(trend, runs)
    placed = placed[placed.groupby("panel")["at"].transform("nunique") > 1]  # one place alone is no trend
    measured = [name for name in trend.measures if name in placed.columns]
    rows = []
    for cell, group in placed.groupby(_CELL, sort=False):
        for measure in measured:
            values = group[measure].dropna().to_numpy(float)
            if len(values):
                rows.append((trend.name, *cell, measure, len(values), *_mean_with_limits(values)))
    return rows


def _placed(trend: Trend, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have a place on the axis, `at`, their algorithms named without it; SFT is before round 1."""
    parts = []
    for label, group in runs.groupby("algorithm", sort=False):
        name = str(label).partition(",")[0]
        key = trend.keys.get(name, trend.keys.get("", ""))
        if key not in runs.columns or group[key].isna().any():
            continue
        setting = f"{key.rpartition('.')[2]}="
        named = ", ".join(part for part in str(label).split(", ") if not part.startswith(setting))
        at = 0 if name == "sft" else group[key].astype(int)
        parts.append(group.assign(algorithm=named, at=at))
    if not parts:
        return runs.iloc[:0].assign(at=0)
    return pd.concat(parts, ignore_index=True).sort_values("at", kind="stable")


def _mean_with_limits(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % t interval over seeds; no limits from fewer than three."""
    mean = float(values.mean())
    if len(values) < MIN_SEEDS:
        return mean, np.nan, np.nan
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half
