"""Planted studies: 0/1 outcomes drawn from known curves, with shared item difficulty and run effects."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq

SIZES = (64, 128, 256, 512, 1024)


def power_law(size: float, a: float = 0.5, b: float = 0.25, c: float = 0.15, center: float = 256.0) -> float:
    """c + a (size / center)^-b."""
    return c + a * (size / center) ** -b


def planted(
    multipliers: Mapping[str, float],
    sizes: Sequence[int] = SIZES,
    num_seeds: int = 3,
    num_problems: int = 500,
    seed: int = 0,
    item_sd: float = 2.0,
    run_sd: float = 0.12,
    curve=power_law,
) -> pd.DataFrame:
    """A long table in which the error of algorithm A at D is curve(m_A D) in expectation.

    logit P(wrong) = eta + u_item + v_run, eta chosen so that the mean over items and runs is the curve's value.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, item_sd, num_problems)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()
    spread = np.hypot(item_sd, run_sd)
    tables = []
    for algorithm, m in multipliers.items():
        for size in sizes:
            wanted = min(curve(m * size), 0.999)

            def excess(eta: float, wanted: float = wanted) -> float:
                return float((weights / (1 + np.exp(-(eta + spread * nodes)))).sum() - wanted)

            eta = brentq(excess, -30, 30)
            for run in range(num_seeds):
                chance = 1 / (1 + np.exp(-(eta + difficulty + rng.normal(0, run_sd))))
                tables.append(
                    pd.DataFrame(
                        {
                            "algorithm": algorithm,
                            "data_size": size,
                            "seed": run,
                            "problem": [f"p{index:04d}" for index in range(num_problems)],
                            "wrong": (rng.random(num_problems) < chance).astype(int),
                        }
                    )
                )
    return pd.concat(tables, ignore_index=True)
