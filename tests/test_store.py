"""The store: an artifact exists whole or not at all, and what is broken is found out."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_stages import RUNNERS, toy

from scaling.engine.store import Store
from scaling.engine.worker import Done, Failed, run_stage
from scaling.stage import Stage


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def commit(store, stage, text="hello"):
    work_dir = store.work_dir(stage)
    (work_dir / "sub").mkdir()
    (work_dir / "sub" / "text").write_text(text)
    return store.commit(stage, work_dir, {"kind": stage.kind, "digest": stage.digest, "numbers": {}})


def test_an_artifact_is_found_only_after_its_commit(store):
    stage = toy("a")
    work_dir = store.work_dir(stage)
    (work_dir / "text").write_text("a")
    assert store.find(stage) is None
    store.commit(stage, work_dir, {"digest": stage.digest})
    assert (store.find(stage) / "text").read_text() == "a"
    assert store.find(stage) == store.root / "toy" / f"a-{stage.digest}"
    assert not work_dir.exists()
    assert sorted(path.name for path in store.find(stage).iterdir()) == ["record.json", "text"]


def test_the_record_lists_every_file_with_its_size_and_sha256(store):
    record = commit(store, toy("a"))
    assert record["files"] == {
        "sub/text": {"bytes": 5, "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    }
    assert store.record(toy("a")) == record == Store(store.root).record(toy("a"))


def test_the_slug_is_no_identity(store):
    commit(store, toy("a", slug="old-name"))
    assert Store(store.root).find(toy("a", slug="new-name")).name.startswith("old-name-")


def test_a_digest_at_the_end_of_another_slug_is_not_mistaken(store):
    stage = toy("a")
    (Path(store.root) / "toy" / f".partial-{stage.digest}").mkdir(parents=True)
    (Path(store.root) / "toy" / f"x{stage.digest}").mkdir(parents=True)
    assert store.find(stage) is None
    assert store.fault(stage) is None


def test_shipped_artifacts_are_found_and_left_alone(store, tmp_path):
    commit(Store(tmp_path / "shipped"), toy("a"))
    both = Store(store.root, shipped=tmp_path / "shipped")
    assert both.find(toy("a")).is_relative_to(tmp_path / "shipped")
    (tmp_path / "shipped" / toy("a").name / "sub" / "text").write_text("hell")
    broken = Store(store.root, shipped=tmp_path / "shipped")
    assert broken.find(toy("a")) is None
    broken.quarantine(toy("a"))
    assert (tmp_path / "shipped" / toy("a").name).exists()


def test_a_shipped_artifact_can_be_adopted(store, tmp_path):
    commit(Store(tmp_path / "shipped"), toy("a"))
    Store(store.root, shipped=tmp_path / "shipped").adopt(toy("a"))
    assert store.find(toy("a")).is_relative_to(store.root)
    assert store.record(toy("a"))["files"].keys() == {"sub/text"}


def _truncate_file(folder):
    (folder / "sub" / "text").write_text("hell")


def _remove_file(folder):
    (folder / "sub" / "text").unlink()


def _truncate_record(folder):
    (folder / "record.json").write_text((folder / "record.json").read_text()[:-20])


def _empty_record(folder):
    (folder / "record.json").write_text("[]")


def _spoil_files(folder):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "files": dict.fromkeys(record["files"], 5)}))


def _remove_record(folder):
    (folder / "record.json").unlink()


def _garble_record(folder):
    (folder / "record.json").write_bytes(b"\xff\x00\xff")


def _swap_record(folder):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "digest": "0123456789"}))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_truncate_file, "has 4 bytes in sub/text, expected 5"),
        (_remove_file, "lacks the file sub/text"),
        (_truncate_record, "cannot be parsed"),
        (_garble_record, "cannot be parsed"),
        (_empty_record, "without a list of files"),
        (_spoil_files, "without a list of files"),
        (_remove_record, "has no record.json"),
        (_swap_record, "of digest 0123456789"),
    ],
)
def test_a_damaged_artifact_is_moved_aside_with_a_warning_and_made_again(store, caplog, damage, fault):
    commit(store, toy("a"))
    damage(store.root / toy("a").name)
    fresh = Store(store.root)
    with caplog.at_level(logging.WARNING):
        assert fresh.find(toy("a")) is None
        assert fault in fresh.fault(toy("a"))
        commit(fresh, toy("a"), "again")
    assert fault in caplog.text and "quarantine" in caplog.text
    assert (fresh.find(toy("a")) / "sub" / "text").read_text() == "again"
    assert len(list((fresh.root / "quarantine" / "toy").iterdir())) == 1


def test_looking_changes_nothing(store):
    commit(store, toy("a"))
    _truncate_file(store.root / toy("a").name)
    before = sorted(Path(store.root).rglob("*"))
    fresh = Store(store.root)
    fresh.look_up_all([toy("a"), toy("b")])
    fresh.failure(toy("a"))
    assert sorted(Path(store.root).rglob("*")) == before


def test_changed_contents_of_equal_size_are_found_on_request(store):
    commit(store, toy("a"))
    (store.root / toy("a").name / "sub" / "text").write_text("jello")
    assert store.fault(toy("a")) is None
    ((folder, fault),) = store.verify()
    assert folder == store.root / toy("a").name and "other contents in sub/text" in fault


def test_the_second_of_two_commits_is_dropped(store):
    first, second = Store(store.root), Store(store.root)
    work_dir = second.work_dir(toy("a"))
    (work_dir / "text").write_text("second")
    aside = work_dir.rename(work_dir.with_name("aside"))
    commit(first, toy("a"), "first")
    record = second.commit(toy("a"), aside, {"digest": toy("a").digest})
    assert (first.find(toy("a")) / "sub" / "text").read_text() == "first"
    assert record == first.record(toy("a"))
    assert not aside.exists()


def test_checkpoints_survive_an_attempt_but_nothing_else_does(store):
    work_dir = store.work_dir(toy("a"))
    for name in ("checkpoints", "litter"):
        (work_dir / name).mkdir()
        (work_dir / name / "file").write_text("1")
    (work_dir / "litter.txt").write_text("1")
    store.leave(toy("a"))
    work_dir = store.work_dir(toy("a"))
    assert sorted(path.name for path in work_dir.iterdir()) == [".lock", "checkpoints"]
    store.commit(toy("a"), work_dir, {"digest": toy("a").digest})
    assert store.record(toy("a"))["files"] == {}
    assert not (store.find(toy("a")) / "checkpoints").exists()


def test_two_workers_are_never_in_one_work_directory(store, monkeypatch):
    monkeypatch.setattr("scaling.engine.store.WORK_LOCK_TIMEOUT_SECONDS", 0.2)
    store.work_dir(toy("a"))
    with pytest.raises(TimeoutError, match="is locked by another process"):
        Store(store.root).work_dir(toy("a"))
    store.leave(toy("a"))
    Store(store.root).work_dir(toy("a"))


def test_a_failure_is_kept_until_the_stage_succeeds(store):
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1\n    boom\nValueError: too large\nand more\n'
    store.fail(toy("a"), trace, "a log")
    failure = store.failure(toy("a", slug="renamed"))
    assert failure["error"] == "ValueError: too large"
    assert Path(failure["log"]).read_text() == "a log"
    assert Path(failure["traceback"]).read_text() == trace
    commit(store, toy("a"))
    assert store.failure(toy("a")) is None


def test_a_stage_killed_before_its_commit_leaves_no_artifact(store):
    program = (
        "from toy_stages import *; from scaling.engine.worker import run_stage; from scaling.engine.store import Store;"
        f"run_stage(toy('a', kind='doomed'), Store({os.fspath(store.root)!r}), RUNNERS)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert ended.returncode == -9
    assert store.find(toy("a", kind="doomed")) is None
    assert [path.name[:9] for path in (store.root / "doomed").iterdir()] == [".partial-"]


# On an object store


@pytest.mark.slow
def test_on_s3_a_chain_of_stages_runs_and_is_found(s3_store):
    first = toy("a")
    second = toy("b", first)
    for stage in (first, second):
        assert isinstance(run_stage(stage, s3_store, RUNNERS), Done)
    fresh = Store(s3_store.root)
    fresh.look_up_all([first, second])
    assert (fresh.find(second) / "text").read_text() == "ba"
    assert fresh.record(second)["numbers"] == {"length": 2}
    assert (fresh.local(fresh.find(second)) / "text").read_text() == "ba"
    broken = Stage("broken", {"text": "x"})
    assert isinstance(run_stage(broken, s3_store, RUNNERS), Failed)
    assert fresh.failure(broken)["error"] == "ValueError: the toy is broken"


@pytest.mark.slow
def test_on_s3_files_without_a_record_or_of_another_size_are_no_artifact(s3_store):
    record = commit(s3_store, toy("a"))
    (s3_store.root / toy("a").name / record["folder"] / "sub" / "text").write_text("hell")
    fresh = Store(s3_store.root)
    fresh.refresh()
    assert fresh.find(toy("a")) is None
    commit(fresh, toy("a"), "again")
    assert (fresh.find(toy("a")) / "sub" / "text").read_text() == "again"
    (fresh.root / toy("a").name / "record.json").unlink()
    later = Store(s3_store.root)
    later.refresh()
    assert later.find(toy("a")) is None


@pytest.mark.slow
def test_on_s3_of_two_writers_the_first_record_stays_and_no_files_mix(s3_store):
    first, second = Store(s3_store.root), Store(s3_store.root)
    work_dir = second.work_dir(toy("a"))
    (work_dir / "text").write_text("second")
    aside = work_dir.rename(work_dir.with_name("aside"))
    commit(first, toy("a"), "first")
    second.commit(toy("a"), aside, {"digest": toy("a").digest})
    assert (Store(s3_store.root).find(toy("a")) / "sub" / "text").read_text() == "first"
