"""docs/plugins.md executed: the plan, the run and the report of its study, here and on a worker."""

import contextlib
import importlib
import io
import re
import shlex

import pandas as pd
import pytest
from plugin_page import ORPO, PARITY, block, forgetting, on_workers, planned

from analysis.measures.base_table import base_table
from scaling.engine.results_dir import open_store
from scaling.planning.sweep_file import load_sweep


def said(command: str) -> str:
    """What a command of the page prints; it runs in this process, and so do its stages."""
    words = shlex.split(command, comments=True)
    assert words[:2] == ["python", "-m"]
    inline = ["--inline"] if words[2] == "scaling.sweep" and "--plan" not in words else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert importlib.import_module(words[2]).main([*words[3:], *inline]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The page's folder after its commands, and what each of them printed."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "orpo.py").write_text(ORPO.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "study.yaml").write_text(block("yaml"), encoding="utf-8")
    (folder / "short_rft.py").write_text(block("python"), encoding="utf-8")
    with forgetting() as patch:
        patch.chdir(folder)
        yield folder, [said(line) for line in block("bash").splitlines()]


@pytest.mark.slow
def test_the_pages_plan_prices_both_plug_ins(study):
    _, (shown, *_) = study
    for kind in ("orpo", "shortest", "rft"):
        assert re.search(rf"^ {kind} +2 +0 +2 ", shown, re.M), shown
    assert re.search(r"^ orpo .*\d\.\de\+0\d", shown, re.M)
    assert "pairs" in shown and "dpo/" not in shown


@pytest.mark.slow
def test_the_pages_run_finishes_and_its_report_has_both_labels(study):
    folder, (_, ran, drawn) = study
    assert "Finished in" in ran
    assert "Report: " in drawn
    page = (folder / "results/study/report.md").read_text(encoding="utf-8")
    assert "ORPO" in page and "RFT on short solutions" in page
    runs = pd.read_csv(folder / "results/study/runs.csv")
    assert sorted(runs["algorithm"].unique()) == ["orpo", "sft", "short_rft"]
    assert runs.loc[runs["algorithm"] == "short_rft", "num_shortest"].notna().all()


@pytest.mark.slow
def test_a_second_run_has_nothing_left_to_do(study):
    assert "Nothing is left to run" in said(block("bash").splitlines()[1])


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_trains_with_orpo_as_this_process_did(study, ray_cluster):
    folder, _ = study
    sweep = load_sweep(folder / "study.yaml")
    store = open_store(sweep)
    stage = next(stage for stage in planned(folder / "study.yaml").stages if stage.kind == "orpo")
    here = store.record(stage)["numbers"]
    store.retire(stage)
    report = on_workers([stage], store, {"train": {"cpu": 1}})
    assert report.done == (stage,)
    there = store.record(stage)["numbers"]
    assert there["num_pairs"] == here["num_pairs"] and there["training_flops"] == here["training_flops"]


# The problem family of the page.


@pytest.fixture(scope="module")
def parities(tmp_path_factory):
    """The folder of the family's study after its commands, and what each of them printed."""
    folder = tmp_path_factory.mktemp("parities")
    (folder / "parity.py").write_text(PARITY.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "parities.yaml").write_text(block("yaml", "A problem family"), encoding="utf-8")
    with forgetting() as patch:
        patch.chdir(folder)
        yield folder, [said(line) for line in block("bash", "A problem family").splitlines()]


@pytest.mark.slow
def test_the_pages_family_is_planned_priced_run_and_reported(parities):
    folder, (shown, ran, drawn) = parities
    assert re.search(r"^ pretrain +1 +0 +1 +\d\.\de\+0\d", shown, re.M), shown
    assert "Finished in" in ran and "Report: " in drawn
    runs = pd.read_csv(folder / "results/parities/runs.csv")
    assert sorted(runs["algorithm"]) == ["rft", "rft", "sft", "sft"] and runs["error"].between(0, 1).all()
    file = folder / "parities.yaml"
    (base,) = base_table(planned(file), open_store(load_sweep(file))).to_dict("records")
    assert base["num_texts"] == 50 * 32 and base["entropy"] == pytest.approx(10 / 11 * 0.325083, rel=1e-5)
    assert "Nothing is left to run" in said(block("bash", "A problem family").splitlines()[1])


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_draws_the_pages_problems_as_this_process_did(parities, ray_cluster):
    folder, _ = parities
    store = open_store(load_sweep(folder / "parities.yaml"))
    stage = next(stage for stage in planned(folder / "parities.yaml").stages if stage.kind == "teacher")
    before = (store.find(stage) / "synthetic.jsonl").read_text()
    store.retire(stage)
    assert on_workers([stage], store, {"host": {"cpu": 1}}).done == (stage,)
    assert (store.find(stage) / "synthetic.jsonl").read_text() == before
    assert store.record(stage)["sources"].endswith(f"+{stage.plugins[0]}")
