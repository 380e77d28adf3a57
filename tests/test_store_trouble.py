"""What is around a store: full, read-only and deleted disks, file systems without locks, permissions of a group."""

import contextlib
import errno
import fcntl
import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from toy_stages import RUNNERS, toy

from scaling.config.errors import ConfigError
from scaling.engine import lease
from scaling.engine.inline import InlinePool
from scaling.engine.lease import Leases
from scaling.engine.progress import Progress, format_failures
from scaling.engine.results_dir import make_writable
from scaling.engine.run import execute
from scaling.engine.store import WORK_LOCK, Store
from scaling.engine.worker import Done, Elsewhere, run_stage
from scaling.filelock import FileLock, NoLocksError, is_locked


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", os.fspath(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user cannot mount a disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", os.fspath(disk)], check=True)


def fill(config, inputs, out):
    """Write more than the disk holds."""
    with (out / "big").open("wb") as file:
        for _ in range(int(config["kib"])):
            file.write(bytes(1024))
    return {}


def run(stages, store, runners=RUNNERS):
    text = io.StringIO()
    report = execute(stages, store, InlinePool(store, runners), Progress(Console(file=text, width=400)))
    return report, text.getvalue()


# Disks


def test_a_stage_that_fills_the_disk_fails_with_the_cure_and_the_others_go_on(tiny_disk):
    store = Store(tiny_disk / "store")
    big, small = toy("big", kind="doomed", kib=512), toy("small")
    report, text = run([big, small], store, {**RUNNERS, "doomed": fill})
    assert report.done == (small,) and [stage for stage, _ in report.failed] == [big]
    error = report.failed[0][1]["error"]
    assert error.startswith("OSError: [Errno 28] No space left on device.")
    assert error.endswith(f"The store is {store.root}. Free space there, or name another store: --set store=DIR.")
    assert "Traceback" not in text
    again, _ = run([big, small], Store(store.root), {**RUNNERS, "doomed": lambda config, inputs, out: {}})
    assert again.is_complete


def test_on_a_full_disk_every_failure_is_kept_in_memory_and_printed_at_the_end(tiny_disk):
    store = Store(tiny_disk / "store")
    run([toy("first")], store)
    with contextlib.suppress(OSError), (tiny_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with contextlib.suppress(OSError), (tiny_disk / "crumbs").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0")
    stages = [toy(str(index), toy("first")) for index in range(3)]
    report, text = run(stages, store)
    assert {stage for stage, _ in report.failed} == set(stages) and "Traceback" not in text
    lines = format_failures(report.failed, {})
    assert sum("Free space there, or name another store" in line for line in lines) == 3
    assert sum("Traceback (most recent call last)" in line for line in lines) == 3
    (tiny_disk / "ballast").unlink()
    assert run(stages, Store(store.root))[0].is_complete


def test_a_store_that_is_deleted_during_a_run_is_made_again_by_the_next(store):
    def delete(config, inputs, out):
        shutil.rmtree(store.root)
        (out / "text").write_text("nowhere")

    base, top = toy("base"), toy("top", toy("base"))
    bad = toy("bad", base, kind="doomed")
    report, text = run([bad, top], store, {**RUNNERS, "doomed": delete})
    assert "Traceback" not in text
    ((stage, failure),) = report.failed
    assert (
        stage == bad and f"The store {store.root} was deleted during the run: run the same command" in failure["error"]
    )
    for _ in range(2):
        report, _ = run([bad, top], Store(store.root), {**RUNNERS, "doomed": "toy_stages:write"})
    assert report.is_complete


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_store_that_takes_no_leases_fails_stages_in_a_line_and_ends_nothing_else(store, monkeypatch, code):
    real = lease._create
    calls = []

    def create(path, holder):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(code, os.strerror(code), os.fspath(path))
        return real(path, holder)

    monkeypatch.setattr(lease, "_create", create)
    report, text = run([toy("a"), toy("b"), toy("c")], store)
    assert len(report.done) == 2 and len(report.failed) == 1 and "Traceback" not in text
    assert os.strerror(code) in report.failed[0][1]["error"]


def test_the_heartbeat_outlives_errors_and_warns_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.01)
    real, beats = os.utime, []

    def utime(path, *arguments, **more):
        beats.append(path)
        if len(beats) <= 3:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **more)

    with Leases(tmp_path) as leases:
        leases.acquire(toy("a"))
        path = tmp_path / toy("a").digest
        real(path, (0, 0))
        monkeypatch.setattr(os, "utime", utime)
        deadline = time.monotonic() + 120
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
    assert caplog.text.count("Leases cannot be renewed") == 1


# Locks


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_one_error_at_the_start(store, monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match=r"where files cannot be locked: .* Name another: --set store=DIR"):
        make_writable(store)
    with pytest.raises(NoLocksError, match="mount the file system with it"):
        FileLock.acquire(Path(store.root) / "x", 0.0)


def test_a_lock_whose_folder_was_renamed_between_opening_and_locking_is_not_taken_for_held(tmp_path, monkeypatch):
    path, real = tmp_path / "work" / ".lock", fcntl.flock

    def flock(descriptor, operation):
        if not (tmp_path / "artifact").exists():
            path.parent.rename(tmp_path / "artifact")
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = FileLock.acquire(path, 5.0)
    assert path.exists() and is_locked(path) and not is_locked(tmp_path / "artifact" / ".lock")
    lock.release()
    assert not is_locked(path)


def test_a_stage_whose_work_directory_is_locked_is_elsewhere_and_runs_once(store, monkeypatch):
    """A take-over: the lease is ours, but the worker of the sweep that lost it is still at work, and then commits."""
    monkeypatch.setattr("scaling.engine.run.ELSEWHERE_SECONDS", 0.02)
    stage, ran = toy("a"), []
    other = Store(store.root)
    work_dir = other.work_dir(stage)
    (work_dir / "text").write_text("from the other")

    def finish():
        time.sleep(0.3)
        other.commit(stage, work_dir, {"kind": "toy", "digest": stage.digest, "numbers": {}})

    thread = threading.Thread(target=finish)
    thread.start()
    report, text = run([stage], store, {"toy": lambda config, inputs, out: ran.append(1) or {}})
    thread.join()
    assert report.reused == (stage,) and not ran and text.count("elsewhere ") == 1
    assert (store.find(stage) / "text").read_text() == "from the other"


def test_a_worker_that_finds_the_directory_locked_or_the_stage_stored_does_not_start_it(store, monkeypatch):
    monkeypatch.setattr("scaling.engine.store.WORK_LOCK_TIMEOUT_SECONDS", 0.05)
    other = Store(store.root)
    other.work_dir(toy("a"))
    assert run_stage(toy("a"), store, RUNNERS) == Elsewhere()
    assert store.failure(toy("a")) is None
    other.leave(toy("a"))
    assert isinstance(run_stage(toy("a"), other, RUNNERS), Done)
    assert run_stage(toy("a"), Store(store.root), RUNNERS) == Elsewhere()


def test_a_lock_left_by_a_killed_worker_is_free(store):
    path = store.partial(toy("a")) / WORK_LOCK
    program = (
        "import sys, time; from pathlib import Path; from scaling.filelock import FileLock;"
        f"lock = FileLock.acquire(Path({os.fspath(path)!r}), 1.0); print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        assert store.is_busy(toy("a")) and not store.is_busy(toy("b"))
        worker.kill()
        worker.wait()
        assert not store.is_busy(toy("a"))


# Permissions


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o027, 0o077])
def test_every_file_of_an_artifact_has_the_permissions_that_the_umask_leaves(store, mask):
    def write(config, inputs, out):
        (out / "sub").mkdir(mode=0o700)
        save_file({"w": np.zeros(3, np.float32)}, out / "sub" / "policy.safetensors")
        os.close(os.open(out / "private", os.O_CREAT | os.O_WRONLY, 0o600))
        return {}

    before = os.umask(mask)
    try:
        assert isinstance(run_stage(toy("a"), store, {"toy": write}), Done)
    finally:
        os.umask(before)
    folder = Path(store.find(toy("a")))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"policy.safetensors", "private", "log.txt", "record.json"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {oct(0o666 & ~mask)}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, folder / "sub")} == {oct(0o777 & ~mask)}


@pytest.mark.parametrize("name", ["text", "record.json", "."])
def test_what_this_user_may_not_read_is_an_error_at_once_and_no_damage(name):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        store = Store(Path(folder) / "store")
        run([toy("a")], store)
        os.chmod(Path(store.find(toy("a"))) / name, 0)
        with (
            as_somebody_else(),
            pytest.raises(ConfigError, match=r"cannot be read by this user\. Ask its owner for chmod"),
        ):
            Store(store.root).find(toy("a"))
        os.chmod(Path(store.root) / toy("a").name / name, 0o755)
        assert Store(store.root).find(toy("a")) is not None


@contextlib.contextmanager
def as_somebody_else():
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_leaving_leaves_a_work_directory_alone_that_another_process_has_made_since(store):
    stage, other = toy("a"), Store(store.root)
    store.work_dir(stage).rename(Path(store.root) / "toy" / "renamed by the commit")
    (other.work_dir(stage) / "new").write_text("another's")
    store.leave(stage)
    assert (other.partial(stage) / "new").read_text() == "another's"
    other.leave(stage)
    assert [path.name for path in other.partial(stage).iterdir()] == [WORK_LOCK]


def lose_lines(config, inputs, out):
    """Write a line, lose the store as by `rm -r`, and go on; as Orbax does, make the folders that are gone again."""
    (out / "metrics.jsonl").write_text("first\n")
    shutil.rmtree(config["store"])
    (out / "checkpoints" / "7").mkdir(parents=True)
    (out / "checkpoints" / "7" / "state").write_text("of update 7")
    (out / "metrics.jsonl").write_text("second\n")
    return {}


def resume(config, inputs, out):
    """Say whether there was a checkpoint."""
    return {"resumed": int((out / "checkpoints" / "7").exists())}


def test_a_stage_whose_files_were_removed_while_it_ran_is_not_stored_and_its_checkpoints_do_not_count(store):
    stage = toy("a", store=os.fspath(store.root))
    failed = run_stage(stage, store, {"toy": lose_lines})
    assert "was removed while it ran, and files with it: was the store deleted?" in failed.failure["error"]
    fresh = Store(store.root)
    assert fresh.find(stage) is None and (fresh.partial(stage) / "checkpoints" / "7").exists()
    done = run_stage(stage, fresh, {"toy": resume})
    assert done.record["numbers"] == {"resumed": 0}
