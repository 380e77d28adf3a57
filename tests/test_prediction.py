"""analysis.multipliers.prediction: m at any size, and the interval of what a new run would show."""

import numpy as np
import pandas as pd
import pytest
from planted import planted, power_law

from analysis.api import fit_table
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse

WIDE = (64, 128, 256, 512, 1024, 2048, 4096)


def panel_of(**settings) -> Panel:
    table = planted({"sft": 1.0, "rft": 2.0}, WIDE, num_problems=400, **settings)
    return Panel(
        analyse(from_table(table[(table["algorithm"] == "sft") | (table["data_size"] <= 1024)]), "sft", {}, 200)
    )


def test_one_number_is_the_same_at_every_size_with_its_interval_and_a_new_runs_is_wider():
    panel = panel_of()
    m, low, high = panel.study.models["rft"].multiplier
    for size in (64, 300, 1024):
        (found,) = panel.predicted(size)
        assert (found.estimate, found.low, found.high) == pytest.approx((m, low, high))
        assert found.new_run_low < low and high < found.new_run_high and not found.extrapolated
    assert panel.predicted(4096)[0].extrapolated  # m D lies beyond the reference


@pytest.mark.parametrize("size", [1, 10**12])
def test_far_from_the_data_the_interval_of_a_new_run_still_holds_m(size):
    (found,) = panel_of().predicted(size)
    assert found.extrapolated and found.low < 2.0 < found.high
    assert found.new_run_low <= found.estimate <= found.new_run_high and np.isfinite(found.new_run_low)


@pytest.mark.parametrize("size", [0, -1, 1.5, "many", True])
def test_a_size_that_is_none_is_an_error(size):
    results = fit_table(planted({"sft": 1.0, "rft": 2.0}, num_problems=50), draws=200)
    with pytest.raises(ValueError, match="whole number of problems"):
        results.predict(size)


def test_a_multiplier_that_changes_is_taken_at_the_size_asked_for():
    table = planted({"sft": 1.0}, WIDE, num_problems=400)
    growing = planted(
        {"rft": 1.0}, WIDE, num_problems=400, curve=lambda size: power_law(size * (size / 64) ** 0.6), seed=1
    )
    growing = growing[growing["data_size"] <= 1024]
    frame = pd.concat([table, growing], ignore_index=True)
    (small,), (large,) = (fit_table(frame, draws=200).predict(size).to_dict("records") for size in (64, 512))
    # m(D) = (D / 64)^.6: 1 and 3.5.
    assert small["low"] < 1.0 < small["high"] and large["low"] < 8**0.6 < large["high"]
    assert large["estimate"] > 2 * small["estimate"]


def test_a_new_runs_interval_holds_the_runs_that_were_left_out():
    """Of 12 studies with a run of rft more than the analysis sees, at most 2 lie outside of the 95 % interval."""
    outside = 0
    for seed in range(12):
        table = planted({"sft": 1.0, "rft": 2.0}, WIDE[:6], num_seeds=4, num_problems=300, run_sd=0.25, seed=seed)
        out = (table["seed"] == 3) & (table["algorithm"] == "rft")
        left = table[out & (table["data_size"] == 256)]["wrong"].mean()
        kept = table[~out & ((table["algorithm"] == "sft") | (table["data_size"] <= 512))]
        (found,) = Panel(analyse(from_table(kept), "sft", {}, 100)).predicted(256) or (None,)
        sizes = np.geomspace(4, 1e5, 4000)
        m = np.interp(-left, -np.array([power_law(size) for size in sizes]), sizes) / 256
        outside += found is None or not found.new_run_low <= m <= found.new_run_high
    assert outside <= 2
