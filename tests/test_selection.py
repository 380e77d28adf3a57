"""analysis.tables.selection: what selection would have chosen without a seed, and how it enters the intervals."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from planted import planted
from planted_store import fill

from analysis.compare import compare_folders
from analysis.fitting.bootstrap import crossed_bootstrap
from analysis.report import report
from analysis.tables.outcomes import from_table
from analysis.tables.runs import tabulate
from analysis.tables.selection import left_out_rows, moves_of
from scaling.planning.sweep_file import load_sweep


def rows(errors, num_problems=1000):
    errors = np.array(errors)
    found = left_out_rows([f"beta={k}" for k in range(len(errors))], range(errors.shape[1]), errors, num_problems)
    return pd.DataFrame(found).assign(panel="", algorithm="rft", data_size=64)


def test_a_choice_without_a_seed_is_judged_on_that_seed():
    # Means .30 and .31: the first is chosen. Without seed 0 the means are .345 and .31, so the second is.
    found = rows([[0.21, 0.34, 0.35], [0.31, 0.32, 0.30]])
    assert found["settings"].tolist() == ["beta=1", "beta=0", "beta=0"]
    assert found["error"].tolist() == [0.31, 0.34, 0.35]
    assert found["error_of_chosen"].tolist() == [0.21, 0.34, 0.35]
    (moves,) = moves_of(found, "").values()
    logit = np.log(0.31 / 0.69) - np.log(0.21 / 0.79)
    np.testing.assert_allclose(moves, logit * np.array([2, -1, -1]) / 3, rtol=0.005)  # half a problem of 1,000


def test_nothing_moves_where_no_seed_decides_or_there_is_one_seed():
    assert moves_of(rows([[0.2, 0.2, 0.2], [0.4, 0.4, 0.4]]), "") == {}
    assert left_out_rows(["a", "b"], [7], np.array([[0.1], [0.2]]), 100) == []


def test_an_error_of_nothing_has_a_finite_move():
    (moves,) = moves_of(rows([[0.0, 0.2], [0.12, 0.1]], num_problems=50), "").values()
    assert np.isfinite(moves).all()
    assert sum(moves) == pytest.approx(0)


def test_every_replicate_leaves_the_same_seed_out_in_all_cells():
    outcomes = from_table(planted({"sft": 1.0, "rft": 2.0}, num_problems=200))
    sizes = outcomes.sizes_of("rft")
    plain = crossed_bootstrap(outcomes, 300, 0)
    moves = {("rft", sizes[0]): (2.0, -1.0, -1.0), ("rft", sizes[1]): (-0.5, 1.0, -0.5), ("sft", 1): (9.0, -9.0)}
    moved = crossed_bootstrap(outcomes, 300, 0, selection=moves)
    first, second = outcomes.index("rft", sizes[0]), outcomes.index("rft", sizes[1])
    others = np.delete(np.arange(plain.shape[1]), [first, second])
    np.testing.assert_array_equal(plain[:, others], moved[:, others])  # to the last bit

    def logits(draws):
        return np.log(draws / (1 - draws))

    by = np.stack([(logits(moved) - logits(plain))[:, cell] for cell in (first, second)], axis=1)
    pairs = {tuple(pair) for pair in by.round(6).tolist()}
    assert pairs == {(2.0, -0.5), (-1.0, 1.0), (-1.0, -0.5)}


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selected")
    file = folder / "planted.yaml"
    file.write_text(
        f"question: Is it there?\nstore: {folder / 'store'}\nseeds: [0, 1, 2]\nresults: {folder / 'results'}\n"
        "grid: {algorithm: [sft, rft], data_size: [64, 128, 256, 512]}\nanalysis: {bootstrap_draws: 200}\n"
        "select: {seeds: [100, 101, 102], rft: {learning_rate: [1.0e-3, 2.0e-3, 3.0e-3]}}\n"
    )
    return file, *fill(file)


def test_a_sweep_that_selects_by_several_seeds_has_their_noise_in_its_intervals(selected, tmp_path):
    file, current, store = selected
    table = tabulate(load_sweep(file), current, store).selection
    assert set(table["algorithm"]) == {"rft"}  # nothing was selected for SFT
    assert len(table) == 4 * 3
    moves = moves_of(table, "")
    assert moves  # the planted candidates are equal but for noise, so that a seed decides somewhere
    out = tmp_path / "first"
    report(file, [], out)
    written = pd.read_csv(out / "selection.csv", keep_default_na=False)
    assert moves_of(written, "") == {cell: pytest.approx(one, rel=1e-3, abs=1e-6) for cell, one in moves.items()}
    assert f"other settings in {len(moves)} of 4 cells" in (out / "report.md").read_text().replace("\n", " ")

    def widths(folder):
        found = json.loads((folder / "fits.json").read_text())["panels"][""]["cells"]
        return {(one["algorithm"], one["data_size"]): one["high"] - one["low"] for one in found}

    with_noise = widths(out)
    report(file, [], out, from_results=True)
    assert widths(out) == pytest.approx(with_noise, abs=1e-12)
    again = tmp_path / "again"
    shutil.copytree(out, again)
    compared = compare_folders([out, again], draws=200).rows
    for folder in (out, again):
        (folder / "selection.csv").unlink()
    assert not compare_folders([out, again], draws=200).rows.equals(compared)
    report(file, [], out, from_results=True)
    without = widths(out)
    for cell, width in with_noise.items():
        if cell in moves:
            assert width > without[cell]
        else:
            assert width == without[cell]
