"""trends and its pictures: means by round and by traces, SFT before round 1, nothing without an axis."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.measures.trend_plots import trend_figure
from analysis.measures.trends import COLUMNS, ROUNDS, trend_table


def runs(rows, **columns) -> pd.DataFrame:
    """rows: (algorithm, seed, error, and one more value for each of columns)."""
    frame = pd.DataFrame(rows, columns=["algorithm", "seed", "error", *columns])
    return frame.assign(panel="", data_size=64, status="done").rename(columns=columns)


def rounds_of(*errors) -> list[tuple]:
    return [(f"rft, rounds={k}", seed, e, k) for k, of_seeds in enumerate(errors, 1) for seed, e in enumerate(of_seeds)]


def test_means_by_round_with_sft_before_the_first():
    table = trend_table(runs([*rounds_of((0.5, 0.7), (0.4, 0.4)), ("sft", 0, 0.8, 1)], rounds="rounds"))
    found = {(row.algorithm, row.at): (row.mean, row.num_runs) for row in table.itertuples()}
    assert found == {("sft", 0): (0.8, 1), ("rft", 1): (pytest.approx(0.6), 2), ("rft", 2): (0.4, 2)}
    assert set(table["measure"]) == {"error"} and table[["low", "high"]].isna().all().all()


def test_limits_are_those_of_t_over_three_seeds_or_more():
    table = trend_table(runs(rounds_of((0.1, 0.2, 0.3), (0.2, 0.2, 0.2)), rounds="rounds")).set_index("at")
    # t of 2 degrees of freedom at 97.5 % is 4.3027; the standard error of 0.1, 0.2, 0.3 is 0.1 / sqrt(3).
    assert table.loc[1, "high"] - 0.2 == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)
    assert table.loc[1, "low"] == pytest.approx(0.4 - table.loc[1, "high"])
    assert table.loc[2, ["low", "high"]].tolist() == pytest.approx([0.2, 0.2])


def test_the_names_of_other_axes_stay_and_the_trends_own_goes():
    rows = [
        (f"rft, max_positives={k}, keep={keep}", 0, 0.1 * k, k) for k in (1, 2, 4) for keep in ("random", "distinct")
    ]
    table = trend_table(runs(rows, positives="rft.max_positives"))
    assert set(table["trend"]) == {"traces"}
    assert dict.fromkeys(table["algorithm"]) == dict.fromkeys(["rft, keep=random", "rft, keep=distinct"])
    assert table[table["algorithm"] == "rft, keep=random"]["at"].tolist() == [1, 2, 4]


def test_each_algorithm_has_its_own_axis_of_traces_and_shares_of_spurious_steps_are_of_the_learned_ones():
    frame = pd.concat(
        [
            runs([("rft, max_positives=1", 0, 0.3, 1, 2, 8), ("rft, max_positives=8", 0, 0.2, 8, 0, 0)],
                 a="rft.max_positives", b="num_spurious_steps", c="num_learned_steps"),
            runs([("step_rft, traces_per_problem=4", 0, 0.1, 4, 1, 4)],
                 a="step_rft.traces_per_problem", b="num_spurious_steps", c="num_learned_steps"),
        ]
    )  # fmt: skip
    table = trend_table(frame)
    shares = table[table["measure"] == "spurious_step_fraction"].set_index(["algorithm", "at"])["mean"].to_dict()
    assert shares == {("rft", 1): 0.25, ("step_rft", 4): 0.25}  # none where nothing was learned
    assert table[table["measure"] == "error"]["at"].tolist() == [1, 4, 8]


def test_there_is_no_trend_without_an_axis_or_with_one_place_on_it():
    one = runs(rounds_of((0.5, 0.7)), rounds="rounds")
    for frame in (one, one.drop(columns="rounds"), one.assign(status="missing")):
        table = trend_table(frame)
        assert table.empty and list(table.columns) == list(COLUMNS)


def test_the_figure_has_a_picture_for_each_measure_and_a_line_for_each_algorithm_that_starts_at_sft():
    frame = runs([*rounds_of((0.5,), (0.4,)), ("sft", 0, 0.8, 1)], rounds="rounds").assign(distinct_fraction=0.5)
    figure = trend_figure(ROUNDS, trend_table(frame))
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    (line,) = (container.lines[0] for container in figure.axes[0].containers)
    assert line.get_xdata().tolist() == [0, 1, 2] and line.get_ydata().tolist() == pytest.approx([80, 50, 40])
