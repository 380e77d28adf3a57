"""Ray that does not start, is interrupted, or dies: one sentence, an exit status of its own, and nothing left."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.config.errors import ConfigError
from scaling.engine import ray_session
from scaling.engine.ray_session import _join, _start
from scaling.engine.run import CannotStart

TESTS = Path(__file__).parent
ROOT = Path(__file__).parents[1]
SECONDS = 300  # for a driver on a busy machine to say something
EXIT_CANNOT_START, EXIT_LOST = 3, 4


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_an_error_at_once(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--address {address}: .*refused. Name a cluster that runs"):
            _join(address)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_start_that_times_out_is_tried_once_more(monkeypatch, failures):
    tries = []

    def init(**options):
        tries.append(options)
        if len(tries) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray_session.ray, "init", init)
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: None)
    if failures == 1:
        _start()
    else:
        with pytest.raises(CannotStart, match=r"Ray cannot start 2 times: The current node timed out during startup\."):
            _start()
    assert len(tries) == 2


def driver(tiny, folder: Path, **variables: str) -> subprocess.Popen:
    """A sweep of toy stages as a process of its own."""
    file = tiny(seeds=[0], grid={"algorithm": ["sft"], "data_size": [8]})
    paths = os.pathsep.join([os.fspath(TESTS.parent), os.fspath(TESTS)])
    toys = {"TOY_SECONDS": "60", "TOY_JOURNAL": os.fspath(folder / "journal"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, os.fspath(TESTS / "toy_command.py"), file],
        env={**os.environ, "PYTHONPATH": paths, **toys, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running(tiny, folder: Path):
    """A driver whose first stage runs, and what it started."""
    process = driver(tiny, folder)
    try:
        deadline = time.monotonic() + SECONDS
        while not (folder / "journal").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        yield process, family(process.pid)
    finally:
        process.kill()
        process.communicate()


def family(pid: int) -> dict[int, str]:
    """The descendants of a process: id -> name."""
    found: dict[int, str] = {}
    children: dict[int, list[tuple[int, str]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            children.setdefault(int(rest.split()[1]), []).append((int(stat.parent.name), name))
    frontier = [pid]
    while frontier:
        for child, name in children.get(frontier.pop(), []):
            found[child] = name
            frontier.append(child)
    return found


def left_of(processes: dict[int, str]) -> dict[int, str]:
    """Those that still run after some seconds."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        left = {pid: name for pid, name in processes.items() if _runs(pid, name)}
        if not left:
            break
        time.sleep(0.2)
    return left


def _runs(pid: int, name: str) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return f"({name})" in text and text.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HOME": "/proc/nobody"}, "Ray cannot start: "),
        ({"RAY_TMPDIR": "/proc/nowhere"}, "Ray cannot start: "),
        ({"TMPDIR": "/tmp/" + "x" * 100}, "its sockets below /tmp/xxx"),
    ],
)
def test_what_keeps_ray_from_starting_is_one_sentence(tiny, tmp_path, variables, words):
    process = driver(tiny, tmp_path, **variables)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == EXIT_CANNOT_START
    assert errors.startswith("error: ") and words in errors and errors.count("\n") == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
def test_workers_that_ray_ends_for_want_of_memory_are_called_that(tiny, tmp_path):
    strict = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "200"}
    process = driver(tiny, tmp_path, **strict)
    output, errors = process.communicate(timeout=2 * SECONDS)
    assert process.returncode == 1, errors
    assert output.count("because the node's memory is almost full; it runs again in") >= 2
    assert "running low on memory" in output and "batch size" not in output


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_the_death_of_ray_itself_is_noticed_and_nothing_is_left(tiny, tmp_path, name):
    with running(tiny, tmp_path) as (process, started):
        victims = [pid for pid, found in started.items() if found == name]
        os.kill(victims[0], signal.SIGKILL)
        killed_at = time.monotonic()
        _, errors = process.communicate(timeout=SECONDS)
        assert time.monotonic() - killed_at < 120
        assert process.returncode == EXIT_LOST, errors
        assert "so no stage can run. What is done is stored" in errors and "Traceback" not in errors
        assert not left_of(started)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(("stop", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 4)])
def test_a_signal_is_the_exit_status_however_often_it_comes(tiny, tmp_path, stop, times):
    with running(tiny, tmp_path) as (process, started):
        for _ in range(times):
            process.send_signal(stop)
            time.sleep(0.3)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + stop, errors
        assert "run the same command again to continue" in output and errors == ""
        assert not left_of(started)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_leaves_nothing(tiny, tmp_path, stop):
    process = driver(tiny, tmp_path)
    started: dict[int, str] = {}
    deadline = time.monotonic() + SECONDS
    while not any("gcs_server" in name for name in started.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
        started = family(process.pid)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + stop, errors
    assert errors == "Stopped. Run the same command again to continue.\n"
    assert not left_of(started)


LEAVE_AGENTS = """
import os, signal, time
from test_ray_session import family
from scaling.engine.ray_session import Session

def raylet():
    return next(pid for pid, name in family(os.getpid()).items() if name == "raylet")

with Session(None):
    deadline = time.monotonic() + 60
    while not (agents := family(raylet())) and time.monotonic() < deadline:
        time.sleep(0.05)
    for agent in agents:
        os.kill(agent, signal.SIGSTOP)  # as one that has not begun to look after its raylet
    os.kill(raylet(), signal.SIGKILL)
print("agents:", *agents)
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_what_a_dead_raylet_leaves_behind_ends_with_the_session():
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.fspath, (ROOT, ROOT / "tests")))}
    command = [sys.executable, "-c", LEAVE_AGENTS]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=SECONDS)
    agents = [int(pid) for pid in done.stdout.rpartition("agents:")[2].split()]
    assert agents, done.stderr
    stats = [Path(f"/proc/{pid}/stat") for pid in agents]
    left = [stat for stat in stats if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"]
    for stat in left:
        os.kill(int(stat.parent.name), signal.SIGKILL)
    assert not left
