"""analysis.api: the report's own numbers from a results folder, its figures at any size, and the same of any table."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from planted import planted
from test_counts import counted

from analysis.api import OutcomesError, ResultsError, fit_table, load
from analysis.figures.overview import error_table, multiplier_table
from analysis.reporting.study_files import write_csv

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "shipped"
PANEL = "sft.epochs=20"  # of paper_star_graph


@pytest.fixture(scope="module")
def star():
    return load(RESULTS / "paper_star_graph", panel=PANEL)


@pytest.fixture(scope="module")
def critical():
    return load(RESULTS / "paper_critical_steps")  # its analysis takes two seconds


@pytest.fixture(scope="module")
def fitted():
    frame = planted({"sft": 1.0, "rft": 2.0}, num_seeds=4, num_problems=200)
    return frame, fit_table(frame, "sft", {"rft": 2}, draws=200)


def rows_of(name: str, file: str, panel: str) -> pd.DataFrame:
    table = pd.read_csv(RESULTS / name / file, dtype={"panel": str}, keep_default_na=False, na_values=[""])
    return table[table["panel"].fillna("") == panel].drop(columns="panel").reset_index(drop=True)


@pytest.mark.parametrize(
    ("name", "panel"), [("quickstart", ""), ("model_scaling", "policy.size=s"), ("paper_scaling", "")]
)
def test_tables_are_those_of_the_report_to_the_last_digit(name, panel):
    study = load(RESULTS / name, panel=panel)
    for file, table in (("errors.csv", study.errors), ("multipliers.csv", study.multipliers), ("runs.csv", study.runs)):
        expected = rows_of(name, file, panel)
        assert len(table) > 3
        pd.testing.assert_frame_equal(table, expected.astype({"algorithm": str}), check_exact=True)
    with (RESULTS / name / "errors.csv").open() as lines:
        texts = [row["error"] for row in csv.DictReader(lines) if row["panel"] == panel]
    assert study.errors["error"].tolist() == list(map(float, texts))
    assert study.outcomes["wrong"].mean() == pytest.approx(study.runs["error"].mean(), rel=1e-9)
    assert list(study.verdicts["algorithm"]) == [name for name in study.errors["algorithm"].unique() if name != "sft"]


def test_the_analysis_gives_the_same_numbers_again(critical, tmp_path):
    panel = critical._source.study
    for file, table in (("errors.csv", error_table(panel.study)), ("multipliers.csv", multiplier_table(panel.study))):
        write_csv(table, tmp_path / file)
        again = pd.read_csv(tmp_path / file)
        stored = rows_of("paper_critical_steps", file, "").dropna(axis=1, how="all")
        pd.testing.assert_frame_equal(again.dropna(axis=1, how="all"), stored, rtol=1e-7, check_dtype=False)


def test_loading_takes_no_time_and_neither_jax_nor_ray():
    code = (
        "import sys, time; from analysis.api import load; start = time.perf_counter()\n"
        f"study = load({str(RESULTS / 'model_scaling')!r}, panel='policy.size=s')\n"
        "assert time.perf_counter() - start < 30, 'loading reads tables'\n"
        "study.table(), study.verdicts, repr(study)\n"
        "assert not {'jax', 'ray', 'flax', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=3000)


def test_the_table_is_what_the_terminal_shows(star):
    table = load(RESULTS / "quickstart").table()
    variants = ("exact verifier", "coarse verifier")  # labels of the sweep file
    learners = [f"{learner}, {variant}" for learner in ("RFT", "Per-step DPO") for variant in variants]
    assert list(table.index) == ["SFT", *learners, "DPO"]
    errors = rows_of("quickstart", "errors.csv", "").set_index(["algorithm", "data_size"])["error"]
    assert table.loc[learners[1], "D=64"] == f"{100 * errors['rft, classes=3', 64]:.1f}"
    assert table.loc[learners[1], "D=2048"] == "-"
    ends = "1.35 (1.17 to 1.58) at D = 64, 1.50 (1.35 to 1.69) at D = 256"
    assert table["multiplier (95 % limits)"].tolist()[:3] == ["reference", ends, "1.11 (0.98 to 1.26)"]
    assert len(star.table()) == 4  # without a single multiplier


def test_a_folder_that_is_no_results_folder_is_an_error_that_says_why(tmp_path):
    with pytest.raises(ResultsError, match="does not exist; give the folder"):
        load(tmp_path / "missing")
    with pytest.raises(ResultsError, match=r"README\.md is a file"):
        load(ROOT / "README.md")
    (tmp_path / "fits.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"lacks runs\.csv, outcomes\.parquet"):
        load(tmp_path)


def test_of_several_panels_one_is_named(star):
    with pytest.raises(ResultsError, match=r"has 2 panels.* --panel: 'sft\.epochs=1', 'sft\.epochs=20'"):
        load(RESULTS / "paper_star_graph")
    with pytest.raises(ResultsError, match=r"no panel 'sft\.epochs=3'; its panels are 'sft\.epochs=1'"):
        load(str(RESULTS / "paper_star_graph"), panel="sft.epochs=3")
    assert star.panels == ("sft.epochs=1", PANEL)
    assert set(star.runs["sft.epochs"]) == {20}


def test_every_figure_of_the_report_is_there_at_any_size(critical):
    assert critical.figures == ("error", "multiplier", "compute", "critical_steps")
    for name in critical.figures:
        figure = critical.figure(name, size=(7, 3.5))
        assert isinstance(figure, Figure) and figure.get_size_inches().tolist() == [7, 3.5]
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "figure", "number"), [("paper_collapse", "rounds", 4), ("paper_critical_steps", "critical_steps", 2)]
)
def test_figures_of_other_measurements_are_there_too(name, figure, number):
    from matplotlib.figure import Figure as Canvas

    study = load(RESULTS / name)
    assert len(study.figure(figure).axes) == number
    row = Canvas().subplots(1, number)
    assert study.figure(figure, ax=row) is row[0].get_figure()
    assert all(axes.has_data() for axes in row)
    with pytest.raises(ValueError, match=f"ax has 1 pairs of axes; this figure takes {number} pairs"):
        study.figure(figure, ax=row[0])


def test_base_policies_are_those_of_all_panels():
    study = load(RESULTS / "model_scaling", panel="policy.size=xs")
    assert "base" in study.figures
    assert len(study.figure("base").axes[0].containers) == 3


def test_a_figure_can_be_drawn_on_axes_of_the_callers(fitted):
    _, study = fitted
    own = Figure(figsize=(9, 3))
    left, right = own.subplots(1, 2)
    for name in ("multiplier", "holdout", "density", "spread", "residual"):
        assert study.figure(name, ax=right) is own
        assert right.get_legend().get_texts()
        right.clear()
    free = own.add_axes((0.1, 0.1, 0.2, 0.2))
    assert study.figure("error", ax=free) is own and free.has_data()
    assert not left.has_data() and not own.legends and own.get_size_inches().tolist() == [9, 3]


def test_a_wrong_figure_lists_the_right_ones(star, fitted):
    with pytest.raises(ResultsError, match=rf"'eror' is not a figure of paper_star_graph, panel {PANEL}; it has error"):
        star.figure("eror")
    with pytest.raises(ResultsError, match="'compute' is not a figure of table"):
        fitted[1].figure("compute")
    with pytest.raises(ValueError, match=r"size is \(0, 4\)"):
        star.figure("error", size=(0, 4))
    with pytest.raises(ValueError, match="both size and ax"):
        star.figure("error", size=(3, 4), ax=Figure().subplots())
    with pytest.raises(TypeError, match="ax holds a str"):
        star.figure("error", ax="left")


def test_figures_that_would_contradict_the_tables_are_refused(tmp_path):
    for file in ("fits.json", "runs.csv", "outcomes.parquet", "errors.csv", "multipliers.csv"):
        text = (RESULTS / "paper_critical_steps" / file).read_bytes()
        if file == "multipliers.csv":
            text = re.sub(rb",rft,pointwise,128,[0-9.]+", b",rft,pointwise,128,9", text)
        (tmp_path / file).write_bytes(text)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "error.png").write_bytes(b"")
    with pytest.raises(ResultsError, match=r"gives other multipliers than multipliers\.csv.*draw the report again"):
        load(tmp_path).figure("error")
    document = (tmp_path / "fits.json").read_text()
    (tmp_path / "fits.json").write_text(document.replace('"claims"', '"other"'))
    with pytest.raises(ResultsError, match="has no claims: an earlier version"):
        load(tmp_path).figure("error")


def test_a_table_of_ones_own_gives_the_same_object(fitted):
    frame, study = fitted
    row = study.multipliers.query("kind == 'overall'").iloc[0]
    assert row["low"] < 2 < row["high"]
    assert study.verdicts["claim"].tolist() == ["2x"] and study.claims == {"rft": 2.0}
    assert study.runs["error"].mean() == pytest.approx(frame["wrong"].mean())
    assert len(study.runs) == 2 * 5 * 4
    assert {"error", "multiplier", "spread"} <= set(study.figures)
    assert list(study.table().index) == ["SFT", "RFT"]
    assert repr(study) == "<Results of table: 2 algorithms, D 64 to 1,024, reference sft>"
    assert "<table" in study._repr_html_() and "RFT" in study._repr_html_()
    changed = study.runs
    changed["error"] = np.nan
    assert study.runs["error"].notna().all()


def test_counts_are_enough_for_it(fitted):
    frame, items = fitted
    study = fit_table(counted(frame), "sft", draws=200)
    pd.testing.assert_series_equal(study.errors["error"], items.errors["error"])
    pd.testing.assert_frame_equal(study.runs.drop(columns="error"), counted(frame)[study.runs.columns[:-1]])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"reference": "dpo"}, "give one of sft, rft as the reference"),
        ({"claims": {"dpo": 2}}, "claims has 'dpo=2'; give ALGORITHM=MULTIPLIER with one of rft"),
        ({"claims": {"rft": -1}}, "claims has 'rft=-1'; a multiplier must be above 0"),
        ({"claims": {"rft": None}}, "claims has 'rft=None'; give a multiplier such as 2"),
    ],
)
def test_a_wrong_question_is_an_error(fitted, change, match):
    with pytest.raises(OutcomesError, match=match):
        fit_table(fitted[0], **{"reference": "sft", **change})


def test_a_study_without_multipliers_has_a_table_of_none():
    results = fit_table(planted({"sft": 1.0, "rft": 1.0}, num_problems=100, curve=lambda size: 0.4), draws=200)
    assert results.verdicts["code"].tolist() == ["NOT_ESTIMABLE"]
    assert len(results.multipliers) == 0 and "estimate" in results.multipliers.columns


def test_what_is_no_frame_or_has_too_few_draws_is_an_error(fitted):
    with pytest.raises(TypeError, match="frame is a str"):
        fit_table("outcomes.csv")
    with pytest.raises(TypeError, match="claims is a str; it maps algorithms to multipliers"):
        fit_table(fitted[0], claims="rft=2")
    with pytest.raises(OutcomesError, match="it has 2 columns wrong"):
        fit_table(pd.concat([fitted[0], fitted[0][["wrong"]]], axis=1))
    with pytest.raises(ValueError, match="at least 200 draws"):
        fit_table(fitted[0], draws=20)
