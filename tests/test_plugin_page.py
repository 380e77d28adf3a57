"""docs/plugins.md executed: the plan, the run and the report of its study, here and on a worker."""

import contextlib
import importlib
import io
import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from plugin_page import ORPO, PARITY, block, forgetting, on_workers, planned

from analysis.measures.base_policies import base_table
from analysis.report import is_current
from scaling.engine.results_dir import open_store
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import load_plugins, loaded_plugins


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
        assert re.search(rf"^{kind} +2 +0 +2 ", shown, re.M), shown
    assert re.search(r"^orpo .*\d\.\de\+0\d", shown, re.M)
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
    assert re.search(r"^pretrain +1 +0 +1 +\d\.\de\+0\d", shown, re.M), shown
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


# The curve form of the page.


def test_the_pages_form_is_fitted_alone_with_its_name_in_the_command(tmp_path):
    for name, language in (("points.csv", "text"), ("log_power.py", "python")):
        (tmp_path / name).write_text(block(language, "A curve form"), encoding="utf-8")
    with forgetting() as patch:
        patch.chdir(tmp_path)
        fit_alone = block("bash", "A curve form").splitlines()[0]
        printed = said(fit_alone)
    fits = json.loads((tmp_path / "fitted/fits.json").read_text())
    assert fits["form"] == "log_power" and "c + a log(1 + x)^-b" in printed
    points = pd.read_csv(tmp_path / "points.csv")
    found = {name: item["estimate"] for name, item in fits["parameters"].items()}
    x = points["size"] / np.exp(np.log(points["size"]).mean())
    curve = found["c"] + found["a"] * np.log1p(x) ** -found["b"]
    assert np.abs(np.log(curve / points["error"])).max() < 0.05
    assert "--import log_power.py" in (tmp_path / "fitted/report.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_pages_form_makes_a_report_stale_and_so_does_a_change_of_it(parities, monkeypatch):
    folder, _ = parities
    file = folder / "parities.yaml"
    assert is_current(file, []) is not None
    (folder / "log_power.py").write_text(block("python", "A curve form"), encoding="utf-8")
    load_plugins([folder / "log_power.py"])
    assert is_current(file, []) is None
    assert "Report: " in said(block("bash", "A curve form").splitlines()[1])
    assert is_current(file, []) is not None
    edited = [replace(each, digest=f"{each.digest}, edited") for each in loaded_plugins() if each.name == "log_power"]
    others = [each for each in loaded_plugins() if each.name != "log_power"]
    monkeypatch.setattr("analysis.report.loaded_plugins", lambda: [*others, *edited])
    assert is_current(file, []) is None
