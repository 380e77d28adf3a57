"""analysis.report, sections, rendering, plots and fits_file: the results directory, whole and deterministic."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from planted_store import fill
from test_tables import GRID, SELECT, write

from analysis.report import main, report
from analysis.reporting.results_folder import ResultsError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Where results go, and the sweep file of a filled store."""
    folder = tmp_path_factory.mktemp("report")
    file = write(folder, GRID, SELECT + "analysis: {claims: {rft: 2, dpo: '<=1', step_dpo: 4}, bootstrap_draws: 300}\n")
    fill(file)
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    yield folder / "results" / "planted", file
    patch.undo()


def test_the_directory_holds_everything(results):
    directory, file = results
    summary = report(file, ())
    assert summary.path == directory / "report.html"
    expected = {
        *("runs.csv", "outcomes.parquet", "choices.csv", "ledger.csv", "errors.csv", "multipliers.csv", "fits.json"),
        *("report.md", "report.html", "figures", "source.txt", "compute_multipliers.csv", "provenance.json"),
        "tables.tex",
    }
    assert {entry.name for entry in directory.iterdir()} == expected
    for name in ("error", "collapsed", "multiplier", "compute"):
        for suffix in ("png", "svg", "pdf"):
            assert (directory / "figures" / f"{name}.{suffix}").stat().st_size > 1000


def test_a_report_drawn_again_from_its_own_tables_says_the_same(results):
    directory, file = results
    report(file, ())
    names = ("report.md", "multipliers.csv", "errors.csv", "fits.json", "runs.csv", "provenance.json")
    before = {name: (directory / name).read_bytes() for name in names}
    report(file, (), from_results=True)
    assert {name: (directory / name).read_bytes() for name in names} == before
    outcomes = (directory / "outcomes.parquet").read_bytes()
    (directory / "outcomes.parquet").write_bytes(outcomes[:100])
    with pytest.raises(ResultsError, match=r"outcomes\.parquet is damaged"):
        report(file, (), from_results=True)
    (directory / "outcomes.parquet").write_bytes(outcomes)
    assert {name: (directory / name).read_bytes() for name in names} == before


def test_the_same_store_gives_the_same_bytes(results):
    directory, file = results
    digests = []
    for _ in range(2):
        report(file, ())
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]


def test_the_planted_multipliers_are_found_and_said(results):
    directory, file = results
    report(file, ())
    document = json.loads((directory / "fits.json").read_text())
    given = document["panels"][""]["multipliers"]
    found = {item["algorithm"]: item for item in given if item["kind"] == "overall"}
    for name, m in (("rft", 2.0), ("dpo", 1.0)):
        assert found[name]["low"] < m < found[name]["high"]
    # At most sizes four times the data lies beyond the reference's range: no one number, and intervals that hold 4.
    sizes = [item for item in given if item["algorithm"] == "step_dpo" and item["kind"] == "pointwise"]
    assert sizes and all(float(item["low"]) < 4.0 < float(item["high"]) for item in sizes)
    text = (directory / "report.md").read_text()
    assert re.search(r"RFT matches SFT trained on [12]\.\d\dx as many problems", text)
    assert "Is it there?" in text
    assert "All 60 runs are in." in text


def test_the_page_is_self_contained(results):
    directory, file = results
    report(file, ())
    page = (directory / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 9
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for heading in ("Verdicts", "Test error", "Multipliers", "Chosen settings", "Costs", "Provenance"):
        assert f">{heading}</" in page


def test_figures_come_with_their_numbers(results):
    directory, file = results
    report(file, ())
    table = pd.read_csv(directory / "figures" / "error.csv")
    assert list(table.columns) == [
        *("algorithm", "data_size", "num_runs", "error", "error_low", "error_high", "fitted"),
    ]
    assert (table["error_low"] <= table["error"]).all()
    assert (table["error"] <= table["error_high"]).all()


def test_an_empty_store_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(write(tmp_path, GRID))]) == 1
    assert "run python -m scaling.sweep" in capsys.readouterr().err


def test_a_wrong_file_is_a_usage_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_it_runs_without_jax_and_ray(results):
    _, file = results
    code = (
        "import sys; from analysis.report import main; assert main([sys.argv[1]]) == 0;"
        "assert not {'jax', 'ray', 'flax'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    command = [sys.executable, "-c", code, str(file)]
    subprocess.run(command, check=True, env=environment, cwd=file.parent, capture_output=True, timeout=3000)
