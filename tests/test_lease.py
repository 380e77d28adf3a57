"""Leases: one driver a stage, and a dead one's stages are free again."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from toy_stages import toy

from scaling.engine import lease
from scaling.engine.lease import STALE_SECONDS, Leases


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "leases"


def test_only_one_of_two_drivers_holds_a_lease_until_it_releases(directory):
    with Leases(directory) as first, Leases(directory) as second:
        assert first.acquire(toy("a"))
        assert not second.acquire(toy("a"))
        assert second.acquire(toy("b"))
        assert second.holder(toy("a")).pid == os.getpid()
        second.release(toy("a"))  # not its own
        assert not second.acquire(toy("a"))
        first.release(toy("a"))
        assert second.acquire(toy("a"))


def test_leaving_releases_everything(directory):
    with Leases(directory) as leases:
        assert leases.acquire(toy("a"))
    assert Leases(directory).holder(toy("a")) is None


def test_the_lease_of_a_killed_process_is_free_at_once(directory):
    program = (
        "import time; from pathlib import Path; from toy_stages import toy; from scaling.engine.lease import Leases;"
        f"print(Leases(Path({os.fspath(directory)!r})).acquire(toy('a')), flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"True\n"
        with Leases(directory) as leases:
            assert not leases.acquire(toy("a"))
            assert leases.holder(toy("a")).pid == other.pid
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert leases.acquire(toy("a"))


def _rewrite(directory, **changes):
    path = directory / toy("a").digest
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_a_process_id_used_again_does_not_keep_a_lease(directory):
    with Leases(directory) as first, Leases(directory) as second:
        first.acquire(toy("a"))
        _rewrite(directory, process_start="long ago")
        assert second.acquire(toy("a"))


def test_another_hosts_lease_is_stale_only_when_its_heartbeat_is_old(directory):
    with Leases(directory) as first, Leases(directory) as second:
        first.acquire(toy("a"))
        path = _rewrite(directory, machine="elsewhere", pid=2**22 + 1)
        assert not second.acquire(toy("a"))
        os.utime(path, (time.time(), time.time() - STALE_SECONDS - 1))
        assert second.acquire(toy("a"))
        assert first.is_lost(toy("a"))
        first.release(toy("a"))  # must not take away what is the second's now
        assert second.holder(toy("a")) is not None
        assert not second.is_lost(toy("a"))


def test_the_heartbeat_keeps_a_lease_fresh(directory, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.02)
    with Leases(directory) as leases:
        leases.acquire(toy("a"))
        path = directory / toy("a").digest
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60


def test_of_many_that_find_a_lease_stale_one_takes_it_over(directory):
    for _ in range(20):
        with Leases(directory) as dead:
            dead.acquire(toy("a"))
            _rewrite(directory, process_start="long ago")
            rivals = [Leases(directory) for _ in range(8)]
            barrier = threading.Barrier(len(rivals))
            won = []

            def rush(rival, barrier=barrier, won=won):
                barrier.wait()
                won.append(rival.acquire(toy("a")))

            threads = [threading.Thread(target=rush, args=(rival,)) for rival in rivals]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for rival in rivals:
                rival.__exit__(None, None, None)
            assert sum(won) == 1


def test_a_lease_that_is_being_written_counts_as_held(directory):
    directory.mkdir()
    (directory / toy("a").digest).write_text("")
    with Leases(directory) as leases:
        assert not leases.acquire(toy("a"))


def test_object_stores_promise_no_exclusion():
    with Leases(None) as first, Leases(None) as second:
        assert first.acquire(toy("a")) and second.acquire(toy("a"))
        assert first.holder(toy("a")) is None
