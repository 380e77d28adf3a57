"""The page on spoiled positives: a planted m is the product of its q and g, and the page says what its table says."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.verdicts.headline import number
from benchmarks.spoiled import CLASSES, COLUMNS, FLAW, main, multipliers, read

RESULTS = Path(__file__).parents[1] / "results"
NUM_PROBLEMS, SEEDS = 4000, (1, 2, 3)
Q, G = 4.0, 2.0  # what exact solutions save, and the gain over that
INTERVAL = re.compile(r"([\d.,]+) \(([\d.,]+) to ([\d.,]+)\)")


def error(data_size: float) -> float:
    return float(1 / (1 + data_size / 100))


def write(folder: Path, axis: str, cells: list[tuple[str, float | None, int | None, int, float]]) -> Path:
    """Outcomes of runs that all err on the same first problems. cells: algorithm, level, rounds, D, error."""
    folder.mkdir()
    runs, outcomes = [], []
    for algorithm, level, rounds, size, share in cells:
        panel = f"{axis}={level}" if axis == FLAW else ""
        name = algorithm if rounds is None else f"{algorithm}, {axis}={level}, rounds={rounds}"
        for seed in SEEDS:
            runs.append((panel, name, size, seed, level, rounds or 1, 10, 100, ""))
            wrong = (np.arange(NUM_PROBLEMS) < round(share * NUM_PROBLEMS)).astype(int)
            ids = [f"p{place}" for place in range(NUM_PROBLEMS)]
            outcomes.append(
                pd.DataFrame(
                    {"panel": panel, "algorithm": name, "data_size": size, "seed": seed, "problem": ids, "wrong": wrong}
                )
            )
    columns = [
        "panel",
        "algorithm",
        "data_size",
        "seed",
        axis,
        "rounds",
        "num_spurious_traces",
        "num_positives",
        "stage",
    ]
    pd.DataFrame(runs, columns=columns).to_csv(folder / "runs.csv", index=False)
    pd.concat(outcomes).to_parquet(folder / "outcomes.parquet")
    return folder


def planted(folder: Path) -> Path:
    cells = [("sft", 0.0, None, size, error(size)) for size in (64, 256, 1024, 4096)]
    cells += [("sft", 0.5, None, size, error(size / Q)) for size in (64, 256, 1024, 4096)]
    cells += [(name, 0.5, 1, size, error(size * G)) for name in ("rft", "step_dpo") for size in (128, 256)]
    return write(folder / "paper_flaws", FLAW, cells)


def test_a_planted_multiplier_is_the_product_of_its_parts(tmp_path):
    rows = pd.DataFrame(multipliers(*read(planted(tmp_path), FLAW, 200, 0), FLAW), columns=list(COLUMNS))
    cells = rows.set_index(["quantity", "algorithm", "data_size"])[["estimate", "low", "high"]]
    found = {cell: tuple(values) for cell, *values in cells.itertuples(name=None)}
    for quantity, truth in (("m", Q * G), ("g", G), ("q", Q)):
        estimate, low, high = found[quantity, "rft", 256]
        assert low <= truth <= high and estimate == pytest.approx(truth, rel=0.05)
    estimate, low, high = found["m_step / m_rft", "", 128]
    assert estimate == pytest.approx(1.0) and low <= 1 <= high


def test_the_command_writes_its_table_and_figure(tmp_path):
    planted(tmp_path)
    cells = [("sft", None, None, size, error(size)) for size in (64, 256, 1024, 4096)]
    cells += [("rft", level, 1, 256, error(256 * gain)) for level, gain in ((None, 2.0), (3.0, 0.5))]
    cells += [("step_dpo", level, 1, 256, error(256 * gain)) for level, gain in ((None, 2.0), (3.0, 1.5))]
    write(tmp_path / "paper_verifier", CLASSES, cells)
    main(["--results", str(tmp_path), "--out", str(tmp_path), "--draws", "100"])
    table = pd.read_csv(tmp_path / "spoiled.csv")
    at_3 = table[(table["axis"] == CLASSES) & (table["level"] == 3)].set_index("quantity")
    ratio = at_3.loc["m_step / m_rft", "estimate"]
    assert ratio == pytest.approx(3.0, rel=0.05)
    assert (tmp_path / "figures" / "spoiled.png").stat().st_size > 10_000


def test_of_a_sweep_with_both_axes_each_row_is_read_on_its_own(tmp_path):
    planted(tmp_path)
    cells = [("sft", None, None, size, error(size)) for size in (64, 256, 1024, 4096)]
    cells += [(name, level, 1, 256, error(512)) for name in ("rft", "step_dpo") for level in (None, 3.0)]
    write(tmp_path / "paper_verifier", CLASSES, cells)
    cells = [("sft", 0.0, None, size, error(size)) for size in (64, 256, 1024, 4096)]
    cells += [("sft", 0.5, None, size, error(size / Q)) for size in (64, 256, 1024, 4096)]
    cells += [("rft", 0.5, 4, 256, error(256 * 3)), ("rft", 0.0, 4, 256, error(256 * 0.5))]
    path = write(tmp_path / "paper_rounds", FLAW, cells) / "runs.csv"
    runs = pd.read_csv(path)
    runs[CLASSES] = np.where((runs[FLAW] == 0) & (runs["rounds"] == 4), 3.0, np.nan)
    runs.to_csv(path, index=False)
    main(["--results", str(tmp_path), "--out", str(tmp_path), "--draws", "100"])
    table = pd.read_csv(tmp_path / "spoiled.csv")
    later = table[(table["rounds"] == 4) & (table["quantity"] == "m")].set_index(["axis", "level"])["estimate"]
    assert dict(later) == pytest.approx({(FLAW, 0.5): 3.0 * Q, (CLASSES, 3.0): 0.5}, rel=0.05)


def test_every_interval_of_the_page_is_in_its_table():
    table = pd.read_csv(RESULTS / "spoiled.csv")
    known = {tuple(map(number, row)) for row in table[["estimate", "low", "high"]].itertuples(index=False)}
    stated = INTERVAL.findall((RESULTS / "README.md").read_text(encoding="utf-8"))
    assert len(stated) >= 10
    assert [one for one in stated if one not in known] == []
