"""What a store tells of a plan from another process, and why a stage must run."""

import io
import os
import time

import pytest
from rich.console import Console
from toy_stages import RUNNERS, toy

from scaling.engine.inline import InlinePool
from scaling.engine.lease import Leases
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.status import status, why_it_runs
from scaling.engine.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def run(stages, store):
    execute(stages, store, InlinePool(store, RUNNERS), Progress(Console(file=io.StringIO())))


def test_status_tells_the_states_from_the_store_alone(store):
    broken = toy("x", kind="broken")
    blocked = toy("blocked", broken)
    done, running, waiting = toy("done"), toy("running"), toy("waiting")
    run([done, blocked], store)
    with Leases(store.root / "leases") as leases:
        leases.acquire(running)
        state = status([done, blocked, running, waiting], Store(store.root))
    assert state.done == (done,) and state.blocked == (blocked,) and state.waiting == (waiting,)
    assert [stage for stage, _ in state.failed] == [broken]
    assert [(stage, holder.pid) for stage, holder in state.running] == [(running, os.getpid())]
    assert state.lines()[0] == "1 done / 1 running / 1 blocked / 1 failed / 1 waiting"


def test_status_shows_the_last_line_of_a_running_stages_log_and_for_how_long_nothing_was_written(store):
    silent, busy = toy("silent"), toy("busy")
    folder = store.work_dir(busy)
    (folder / "log.txt").write_bytes("the first\nthe last, b\xe9b\xff\n".encode("latin-1"))
    (folder / "checkpoints").mkdir()
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    os.utime(folder / "checkpoints", (time.time() - 600, time.time() - 600))
    with Leases(store.root / "leases") as leases:
        assert leases.acquire(silent) and leases.acquire(busy)
        lines = status([silent, busy], Store(store.root)).lines()
    shown = "\n".join(lines)
    assert shown.count("nothing written for") == 1 and "nothing written for 10 min" in shown
    assert "the last, b" in shown and "the first" not in shown


def test_status_passes_over_folders_that_a_running_stage_removes_meanwhile(store, monkeypatch):
    busy = toy("busy")
    gone = store.work_dir(busy) / "checkpoints" / "1.tmp"
    gone.mkdir(parents=True)
    listed = os.scandir

    def scandir(path):
        if str(path) == str(gone):
            os.rmdir(gone)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with Leases(store.root / "leases") as leases:
        assert leases.acquire(busy)
        assert "nothing written for" in "\n".join(status([busy], Store(store.root)).lines())
    assert not gone.exists()


@pytest.mark.parametrize("record", [b"{}", b"[1]", b"\xff\xfe", b"1", b""])
def test_a_damaged_record_of_an_earlier_artifact_explains_nothing(store, record):
    earlier = toy("base", slug="base", rate=1)
    run([earlier], store)
    (store.find(earlier) / "record.json").write_bytes(record)
    assert why_it_runs(toy("base", slug="base", rate=2), Store(store.root)) == "new"


def test_the_reason_a_stage_must_run_is_what_differs(store):
    base = toy("base", slug="base", rate=1)
    top = toy("top", base, slug="top")
    assert why_it_runs(top, store) == "new"
    run([top], store)
    changed = toy("base", slug="base", rate=2)
    assert why_it_runs(changed, store) == "config.rate 1 -> 2"
    assert why_it_runs(toy("top", changed, slug="top"), store) == "input input0 changed"
    (store.find(top) / "text").write_text("")
    assert why_it_runs(top, store) == "its artifact has 0 bytes in text, expected 7"
    run([toy("x", kind="broken")], store)
    assert why_it_runs(toy("x", kind="broken"), store) == "it failed before: ValueError: the toy is broken"
