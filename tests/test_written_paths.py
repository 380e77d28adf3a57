"""Paths in sweep files: relative to the file, or to the current folder where --set or a default gives them."""

import json
import os
from pathlib import Path

import pytest
import yaml
from toy_sweep import TINY

from scaling import sweep
from scaling.config.errors import ConfigError
from scaling.engine.results_dir import open_store, results_dir
from scaling.planning import recipes
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep
from scaling.pretrained.hub import content_digest

SETS = {"family": "jsonl", "path": "rows.jsonl", "num_validation": 2, "num_test": 2}
TEXT = {
    "question": "Where is it?",
    "problems": SETS,
    "policy": {"hf": "someone/tiny"},
    "grid": {"algorithm": ["sft"], "data_size": [2]},
    "seeds": [0],
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with sweeps and data, and another one, empty, which is the current one."""
    (tmp_path / "lab" / "sweeps").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rows = "".join(json.dumps({"prompt": f"{n} and 1?", "answer": str(n + 1)}) + "\n" for n in range(12))
    (tmp_path / "lab" / "sweeps" / "rows.jsonl").write_text(rows)
    return tmp_path / "lab" / "sweeps"


def written(folder: Path, **changes: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**TEXT, **changes}))
    return path


def test_paths_of_the_file_lead_from_the_file(lab):
    server = {"endpoint": "http://gpu7/v1", "export": True, "folder": "../exports"}
    keys = {"store": "../store", "results": "../out", "sampler": server}
    file = written(lab, **keys, teacher={"ledger": "paid"})
    found = load_sweep(file)
    (cell,) = cells(found)
    assert Path(open_store(found).root) == lab.parent / "store"
    assert results_dir(file, (), found) == lab.parent / "out"
    assert results_dir(file, ["seeds=[1]"], found).parent == lab.parent
    assert cell.problems.path == str(lab / "rows.jsonl")
    assert cell.sampler.folder == str(lab.parent / "exports")
    assert cell.teacher.ledger == str(lab / "paid")


def test_defaults_and_overrides_lead_from_the_current_folder(lab):
    file, here = written(lab), Path.cwd()
    found = load_sweep(file)
    assert Path(open_store(found).root) == here / "results" / "store"
    assert results_dir(file, (), found) == here / "results" / "mine"
    found = load_sweep(file, ["store=kept", "results=out", "problems.path=../lab/sweeps/rows.jsonl"])
    assert Path(open_store(found).root) == here / "kept"
    assert results_dir(file, ["results=out"], found) == here / "out"
    assert cells(found)[0].problems.path == str(lab / "rows.jsonl")
    assert results_dir(file, ["store=kept"], found, Path("said")) == here / "said"


def test_a_path_in_an_axis_or_in_a_whole_section_is_one_too(lab):
    (lab / "more.jsonl").write_text((lab / "rows.jsonl").read_text())
    problems = {key: value for key, value in SETS.items() if key != "path"}
    grid = {**TEXT["grid"], "problems.path": ["rows.jsonl", "more.jsonl"]}
    found = load_sweep(written(lab, problems=problems, grid=grid))
    assert {cell.problems.path for cell in cells(found)} == {str(lab / "rows.jsonl"), str(lab / "more.jsonl")}
    (lab / "mine.yaml").rename(lab.parent / "mine.yaml")
    path = "{family: jsonl, path: ../lab/sweeps/rows.jsonl, num_validation: 2, num_test: 2}"
    found = load_sweep(written(lab), [f"problems={path}"])
    assert {cell.problems.path for cell in cells(found)} == {str(lab / "rows.jsonl")}


def test_names_made_of_paths_are_the_same_in_every_checkout(lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cells(load_sweep(written(lab)))[0].problems.path == "./lab/sweeps/rows.jsonl"


def test_the_home_is_known_in_both(lab, monkeypatch):
    monkeypatch.setenv("HOME", str(lab.parent))
    assert Path(open_store(load_sweep(written(lab, store="~/store"))).root) == lab.parent / "store"
    assert Path(open_store(load_sweep(written(lab), ["store=~/kept"])).root) == lab.parent / "kept"


def test_a_bucket_stays_a_bucket(lab):
    assert load_sweep(written(lab, store="gs://bucket/store")).store == "gs://bucket/store"


def checkpoint(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def base_of(file: Path, overrides: tuple[str, ...] = ()):
    return recipes.base_policy(cells(load_sweep(file, overrides))[0])


def test_a_checkpoint_beside_the_file_is_what_it_holds_and_not_where_it_lies(lab, tmp_path):
    checkpoint(lab / "models" / "tiny")
    checkpoint(tmp_path / "elsewhere")
    named = base_of(written(lab, policy={"hf": "models/tiny"}))
    given = base_of(written(lab), (f"policy.hf={tmp_path / 'elsewhere'}",))
    assert named.digest == given.digest
    assert named.execution["checkpoint"] == str(lab / "models" / "tiny")
    assert str(tmp_path) not in json.dumps(named.config)
    checkpoint(tmp_path / "changed", '{"model_type": "llama"}')
    assert base_of(written(lab), (f"policy.hf={tmp_path / 'changed'}",)).digest != named.digest


def test_a_name_of_the_hub_stays_one_whatever_lies_in_the_current_folder(lab):
    checkpoint(Path.cwd() / "someone" / "tiny")
    stage = base_of(written(lab))
    assert stage.config["policy"]["hf"] == "someone/tiny" and not stage.execution
    assert base_of(written(lab), ("policy.hf=someone/tiny",)).config["policy"]["hf"].startswith("sha256:")


def test_a_checkpoint_that_is_not_there_is_one_clear_error(lab):
    with pytest.raises(ConfigError, match=r"policy\.hf.*nowhere"):
        base_of(written(lab, policy={"hf": "./nowhere"}))


def test_a_checkpoint_that_changed_since_the_plan_is_not_imported(lab):
    from algorithms import import_policy

    folder = checkpoint(lab / "tiny")
    stage = base_of(written(lab, policy={"hf": "tiny"}))
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert content_digest(folder) != stage.config["policy"]["hf"]
    with pytest.raises(ValueError, match="changed since the sweep was planned"):
        import_policy.run({**stage.config, **stage.execution}, {}, lab)


def test_the_plan_begins_with_where_things_are(lab, capsys):
    file = lab / "tiny.yaml"
    file.write_text(yaml.safe_dump({**TINY, "store": "kept"}))
    assert sweep.main([str(file), "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()[:3]
    assert f"Store: {lab / 'kept'}" in lines
    assert f"Results: {os.getcwd()}/results/tiny" in lines
    assert not list(Path.cwd().iterdir())
