"""`python -m scaling.store list, size, gc`: what two sweeps need of a store, and what could go."""

import os
import time

import pytest
import yaml

from scaling import store as command
from scaling.engine.store import Store
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.stage import Stage


@pytest.fixture
def shared(tmp_path):
    """Two sweeps with one seed in common, and a store that has every teacher's solutions of both."""
    files, store = [], Store(tmp_path / "store")
    for name, seeds in (("one", [0, 1]), ("two", [1, 2])):
        file = tmp_path / f"{name}.yaml"
        grid = {"algorithm": ["sft"], "data_size": [8, 16]}
        file.write_text(yaml.safe_dump({"question": "why?", "grid": grid, "seeds": seeds}))
        files.append(file)
        for stage in plan(load_sweep(file), store.numbers).stages:
            if stage.kind == "teacher" and store.find(stage) is None:
                work_dir = store.work_dir(stage)
                (work_dir / "rows").write_bytes(bytes(100))
                record = {"kind": stage.kind, "digest": stage.digest, "numbers": {}, "committed_at": time.time()}
                store.commit(stage, work_dir, record)
    return store, files


def run(*words):
    return command.main([os.fspath(word) for word in words])


def test_list_names_the_sweeps_that_need_each_artifact(shared, capsys):
    store, files = shared
    assert run("list", store.root, *files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all("100 bytes" in line for line in lines)
    assert (
        sorted(line.split("teacher/")[1].split("  ")[1] for line in lines)
        == ["one"] * 2 + ["one, two"] * 2 + ["two"] * 2
    )


def test_size_adds_up_each_kind_and_each_sweep(shared, capsys):
    store, files = shared
    assert run("size", store.root, *files) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["teacher"] == rows["all"] == ["6", "600", "bytes"]
    assert rows["one"] == rows["two"] == ["4", "400", "bytes"]


def test_gc_deletes_what_no_named_sweep_needs_and_only_when_told(shared, capsys):
    store, (one, two) = shared
    assert run("gc", store.root, one, "--days", "0") == 0
    assert "2 artifacts, 200 bytes, are needed by no sweep named here." in capsys.readouterr().out
    assert len(list(store.every())) == 6
    assert run("gc", store.root, one, "--delete") == 0  # all are younger than a day
    assert "0 artifacts deleted" in capsys.readouterr().out
    assert run("gc", store.root, one, "--days", "0", "--delete") == 0
    left = {digest for _, digest, _ in Store(store.root).every()}
    assert left == {stage.digest for stage in plan(load_sweep(one), store.numbers).stages if stage.kind == "teacher"}
    assert run("gc", store.root, one, two, "--days", "0") == 0
    assert "0 artifacts, 0 bytes, are needed by no sweep" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["nan", "-1", "many", "-inf"])
def test_gc_refuses_an_age_that_is_none(shared, capsys, days):
    store, (one, two) = shared
    with pytest.raises(SystemExit) as stopped:
        run("gc", store.root, one, f"--days={days}", "--delete")
    assert stopped.value.code == 2
    assert f"{days!r} is not a number of days, 0 or more" in capsys.readouterr().err
    assert run("gc", store.root, one, two, "--days", "0") == 0


def test_gc_leaves_what_is_not_whole_to_verify(shared, capsys):
    store, (one, two) = shared
    broken = next(folder for folder, *_ in store.every())
    (broken / "record.json").unlink()
    assert run("gc", store.root, one, two, "--days", "0", "--delete") == 0
    assert broken.exists()
    assert run("list", store.root) == 0 and "not whole" in capsys.readouterr().out


def test_gc_without_sweeps_would_delete_everything_and_is_refused(shared, capsys):
    store, _ = shared
    assert run("gc", store.root, "--days", "0", "--delete") == 2
    assert "name their files" in capsys.readouterr().err and len(list(store.every())) == 6


def test_unfinished_stages_are_counted_and_gc_deletes_those_that_no_sweep_needs_and_that_do_not_run(shared, capsys):
    store, (one, two) = shared
    needed = next(stage for stage in plan(load_sweep(one), store.numbers).stages if stage.kind == "sft")
    stages = [needed, Stage("sft", {"seed": 7}), Stage("sft", {"seed": 8})]
    for stage in stages:
        checkpoints = store.work_dir(stage) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / "7").write_bytes(bytes(1000))
    for stage in stages[:2]:
        store.leave(stage)
    assert run("size", store.root, one, two) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["unfinished"] == ["3", "3.0", "kB"] and rows["one"] == ["5", "1.4", "kB"]
    assert run("gc", store.root, one, two, "--delete") == 0  # all are younger than a day
    assert "0 artifacts deleted" in capsys.readouterr().out
    assert run("gc", store.root, one, two, "--days", "0", "--delete") == 0
    out = capsys.readouterr().out
    assert f"sft/.partial-{stages[1].digest}" in out and "0 artifacts and 1 unfinished stage deleted" in out
    assert {digest for _, digest in store.unfinished()} == {stages[0].digest, stages[2].digest}  # the last one runs
    store.leave(stages[2])
