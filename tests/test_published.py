"""results/published.md: written from its numbers, the numbers from the data, and intervals that hold planted m."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import published
from benchmarks.published_page import document
from benchmarks.two_curves import Points, drawn, multiplier

COMMITTED = published.OUT / "published.csv"
needs_data = pytest.mark.skipif(not published.DATA.is_dir(), reason="the public points are not here")
SIZES = 200 * 2.0 ** np.arange(14)


def committed(name: str, learner: str | None = None) -> pd.DataFrame:
    table = pd.read_csv(COMMITTED)
    rows = table[table["set"] == name]
    return (rows if learner is None else rows[rows["learner"] == learner]).reset_index(drop=True)


def assert_same(rows, expected: pd.DataFrame) -> None:
    found = pd.DataFrame(list(rows), columns=expected.columns).astype(expected.dtypes)
    pd.testing.assert_frame_equal(
        found, expected, rtol=0.01
    )  # optimisers of other machines end elsewhere in the valley


def test_the_page_is_written_from_its_numbers():
    assert (published.OUT / "published.md").read_text(encoding="utf-8") == document(COMMITTED)


@needs_data
def test_a_pair_of_fine_tuning_curves_gives_the_committed_numbers():
    rows = published.finetuning(published.DATA, ("gigaword",), (("gpt2-medium", "gpt2"),))
    assert_same(rows, committed("gigaword", "gpt2-medium"))


@needs_data
def test_images_and_tokens_give_the_committed_numbers(monkeypatch):
    rows = [row for row in published.vision(published.DATA) if row["set"] == "vision inet_10"]
    assert_same(rows, committed("vision inet_10"))
    monkeypatch.setattr(published, "NUM_DRAWS", 20)
    estimates = pd.DataFrame(list(published.tokens(published.DATA)))["estimate"]
    np.testing.assert_allclose(estimates, committed("tokens")["estimate"], rtol=1e-3)


def test_without_the_data_it_says_what_to_give(tmp_path, capsys):
    assert published.main([str(tmp_path), "--out", str(tmp_path)]) == 2
    assert (
        "lacks finetuning_scaling, alabdulmohsin_benchmark, epoch_chinchilla. Name the folder"
        in capsys.readouterr().err
    )


def planted(name: str, x_mid: float, seed: int, noise: float = 0.006) -> Points:
    """A hill from 4.8 to 0.9 whose middle is at x_mid, so that m of two of them is the ratio of their middles."""
    loss = 0.9 + 3.9 / (1 + (SIZES / x_mid) ** 0.4)
    return Points(name, SIZES, loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(SIZES))))


def test_planted_multipliers_are_found_and_lie_in_their_intervals():
    held = []
    for seed in range(8):
        curves = (planted("base", 3e4, 2 * seed), planted("other", 1e4, 2 * seed + 1))
        m = multiplier(*(drawn(points, "hill", 100, seed) for points in curves))
        assert m.first.m == pytest.approx(3.0, rel=0.3) and m.last.by_points == pytest.approx(3.0, rel=0.3)
        held += [m.first.low < 3.0 < m.first.high, m.last.low < 3.0 < m.last.high, m.change[1] < 1.0 < m.change[2]]
    assert sum(held) >= 21  # of 24, where 95 % are expected


def test_a_multiplier_that_changes_is_seen_to_change_and_curves_apart_have_none():
    base = drawn(planted("base", 3e4, 0), "hill", 100, 0)
    flat = Points("flat", SIZES, np.exp(0.4 * np.log(planted("flat", 3e4, 1).loss) + 0.6))
    change = multiplier(base, drawn(flat, "hill", 100, 0)).change
    assert change[2] < 1
    assert multiplier(base, drawn(Points("low", SIZES, base.points.loss / 10), "hill", 100, 0)) is None
