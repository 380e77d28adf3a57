"""What a plan says of designs that cannot answer their question."""

import json

import pytest
import yaml

from analysis.tables.runs import names_without_use
from scaling import sweep as command
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.warnings import design_warnings

GOOD = {
    "question": "why?",
    "grid": [
        {"algorithm": ["sft", "rft", "dpo", "step_dpo"], "data_size": [64, 128]},
        {"algorithm": ["sft"], "data_size": [256, 512]},
    ],
    "seeds": [0, 1, 2],
    "analysis": {"claims": {"step_dpo": 8, "dpo": "<=1"}},
}


def warnings_of(tmp_path, **changes):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    found = load_sweep(path)
    return design_warnings(found, plan(found, lambda stage: None))


def test_a_sound_design_has_none(tmp_path):
    assert warnings_of(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"seeds": [0]}, ["one seed shows no differences", "at least 3"]),
        ({"seeds": [0, 1]}, ["two seeds"]),
        ({"grid": GOOD["grid"][:1]}, ["sft, the reference, has 2 data sizes (64, 128)", "Add sizes"]),
        (
            {"analysis": {"claims": {"step_dpo": 16}}},
            ["16x cannot be seen for step_dpo", "64", "512", "end at 8", "to 1024"],
        ),
        ({"rft": {"max_positives": 9}}, ["rft.max_positives is 9, but only 8 completions a problem"]),
        ({"dpo": {"pairs_per_problem": 10}}, ["dpo.pairs_per_problem is 10"]),
        ({"kto": {"beta": 0.2}}, ["kto has no effect: the grid runs sft, rft, dpo, step_dpo", "grid.algorithm"]),
        (
            {"select": {"seeds": [9], "awr": {"beta": [1.0, 2.0]}}, "awr": {"epochs": 1}},
            ["awr, select.awr have no effect: the grid runs sft"],
        ),
        (
            {"grid": {"algorithm": ["sft"], "data_size": [64, 128, 256], "kto.beta": [0.1, 0.2]}, "analysis": {}},
            ["grid.kto.beta has no effect: the grid runs sft."],
        ),
        ({"step_values": {"negatives_per_problem": 11}}, ["step_values.negatives_per_problem is 11"]),
        (
            {
                "grid": [
                    {"algorithm": ["sft"], "data_size": [64, 128, 512], "rounds": [1, 2]},
                    {"algorithm": ["rft", "dpo", "step_dpo"], "data_size": [64], "dpo.beta": [0.1, 0.3]},
                ]
            },
            ["rft at data_size 64 trains on equal data with dpo.beta = 0.1 and dpo.beta = 0.3", "so do 1 more"],
        ),
    ],
)
def test_each_weakness_is_one_sentence_with_its_numbers_and_cure(tmp_path, changes, parts):
    lines = [line for line in warnings_of(tmp_path, **changes) if parts[0] in line]
    assert len(lines) == 1 and all(part in lines[0] for part in parts)


def test_a_plan_prints_them_and_explains_no_stage_of_another_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(GOOD | {"seeds": [0]}))
    assert command.main(["sweep.yaml", "--plan"]) == 0
    assert "warning: one seed shows no differences" in capsys.readouterr().out


@pytest.mark.parametrize(("installed", "number"), [(None, 1), (object(), 0)])
def test_answers_in_words_need_a_package_that_may_be_absent(tmp_path, monkeypatch, installed, number):
    rows = [{"prompt": f"{n} ?", "answer": str(n), "solution": f"#### {n}"} for n in range(900)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("scaling.planning.warnings.find_spec", lambda name: installed)
    found = warnings_of(tmp_path, problems={"family": "jsonl", "path": "rows.jsonl"}, policy={"hf": "tiny/none"})
    assert len([line for line in found if "math-verify" in line and "'.[problems]'" in line]) == number


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"analysis": {"compare": [["rft, max_positives=4", "dpo"]]}}, []),
        ({"labels": {"rft": "ours", "rft, max_positives=4": "RFT-4", "max_positives=2": "two"}}, []),
        (
            {"analysis": {"compare": [["rft, max_positives=3", "dpo"], ["dpo", "rft, max_positives=3"]]}},
            [
                "analysis.compare names 'rft, max_positives=3'",
                "no effect",
                "'rft, max_positives=2'; 'rft, max_positives=4'",
            ],
        ),
        (
            {"labels": {"max_positives=3": "three"}},
            ["labels names 'max_positives=3'", "'rft, max_positives=2'; 'rft, max_positives=4'"],
        ),
    ],
)
def test_names_by_which_no_run_is_called_have_no_effect(tmp_path, changes, parts):
    path = tmp_path / "sweep.yaml"
    grid = [*GOOD["grid"], {"algorithm": ["rft"], "data_size": [64, 128], "rft.max_positives": [2, 4]}]
    grid[0] = {"algorithm": ["sft", "dpo"], "data_size": [64, 128]}
    path.write_text(yaml.safe_dump(GOOD | {"grid": grid, "analysis": {}} | changes))
    found = load_sweep(path)
    lines = names_without_use(found, plan(found, lambda stage: None))
    assert len(lines) == bool(parts) and all(part in lines[0] for part in parts)
