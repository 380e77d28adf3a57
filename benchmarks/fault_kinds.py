"""The kinds of fault of benchmarks.faults: what is broken, in a trial that runs, at whatever moment it is called.

In: a trial, with its own random numbers. Out: a context in which something is broken; what ends by itself, such as a
full disk, is mended when it is left.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_trial import STALE_SECONDS, Trial

Apply = Callable[[Trial], contextlib.AbstractContextManager[str]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `apply` breaks something and says what; leaving its context mends what ends by itself."""

    name: str
    apply: Apply
    with_ray: bool = False  # only there is something to break
    mounts: bool = False  # needs root on Linux
    small: bool = False  # the store is on a file system of a few megabytes
    reruns: bool = True  # a stage may run to its end more than once because of it
    early: bool = False  # what it breaks is gone again before the end
    damages: bool = False  # contents, which `scaling.store verify` finds where no stage reads them


# What is done to a file


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size) if path.stat().st_size else 0)


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _empty(path: Path, rng: random.Random) -> None:
    os.truncate(path, 0)


def _remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def _garble(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(200))


def _other_version(path: Path, rng: random.Random) -> None:
    path.write_text(json.dumps({"format": 99, "who": "somebody"}))


# Faults


def _signals(*numbers: int, pause: float = 0.3) -> Apply:
    @contextlib.contextmanager
    def apply(trial: Trial) -> Iterator[str]:
        for number in numbers:
            trial.drivers[0].signal(number)
            time.sleep(pause)
        yield "driver"

    return apply


def _process(name: str, *numbers: int) -> Apply:
    """Signals to one process below the driver whose name begins so."""

    @contextlib.contextmanager
    def apply(trial: Trial) -> Iterator[str]:
        def found() -> list[int]:
            return [pid for pid, called in trial.drivers[0].descendants().items() if called.startswith(name)]

        victims = trial.wait_for(found)
        if victims:
            victim = trial.rng.choice(victims)
            for number in numbers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, number)
                time.sleep(trial.rng.uniform(0.3, 3))
        yield name if victims else ""

    return apply


def _file(pattern: str, change: Callable[[Path, random.Random], None], *, after_kill: bool = False) -> Apply:
    """Change a file of the store while the sweep runs, or once its driver is killed."""

    @contextlib.contextmanager
    def apply(trial: Trial) -> Iterator[str]:
        path = trial.some(pattern)
        if path is not None and after_kill:
            trial.wait_for(lambda: False, trial.rng.uniform(0, 0.2))
            path = trial.some(pattern) or path
        if after_kill:
            trial.kill_first()
        hit = ""
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # released or removed this moment
                change(path, trial.rng)
                hit = os.fspath(path.relative_to(trial.store))
        yield hit

    return apply


@contextlib.contextmanager
def _artifact_removed(trial: Trial) -> Iterator[str]:
    found = trial.wait_for(trial.artifacts)
    folder = trial.rng.choice(found) if found else None
    if folder:
        shutil.rmtree(folder)
    yield folder.name if folder else ""


@contextlib.contextmanager
def _kind_removed(trial: Trial) -> Iterator[str]:
    found = trial.wait_for(trial.artifacts)
    folder = trial.rng.choice(found).parent if found else None
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    yield folder.name if folder else ""


@contextlib.contextmanager
def _store_removed(trial: Trial) -> Iterator[str]:
    trial.wait_for(trial.artifacts)
    shutil.rmtree(trial.store, ignore_errors=True)
    yield "store"


@contextlib.contextmanager
def _checkpoint_emptied(trial: Trial) -> Iterator[str]:
    path = trial.some("*/.partial-*/checkpoints/[0-9]*/files.json")
    trial.kill_first()
    if path and path.parent.exists():
        shutil.rmtree(path.parent)
        path.parent.mkdir()
    yield path.parent.name if path else ""


@contextlib.contextmanager
def _failure_garbled(trial: Trial) -> Iterator[str]:
    """Of a stage that has not run yet, as a driver of another version would leave it."""
    stage = trial.rng.choice(trial.names)
    path = trial.store / "failures" / stage / "failure.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _garble(path, trial.rng)
    yield stage


@contextlib.contextmanager
def _second_driver(trial: Trial) -> Iterator[str]:
    trial.start()
    yield "a second driver"


@contextlib.contextmanager
def _killed_beside_another(trial: Trial) -> Iterator[str]:
    trial.start()
    time.sleep(trial.rng.uniform(0, 2))
    trial.drivers[0].signal(signal.SIGKILL)
    yield "one of two drivers"


@contextlib.contextmanager
def _suspended(trial: Trial) -> Iterator[str]:
    """For longer than its leases hold, while another driver wants them."""
    trial.drivers[0].signal(signal.SIGSTOP)
    trial.start()
    time.sleep(STALE_SECONDS * trial.rng.uniform(1, 2))
    trial.drivers[0].signal(signal.SIGCONT)
    yield "driver"


@contextlib.contextmanager
def _clocks(trial: Trial) -> Iterator[str]:
    """Every file of the store is from the past or the future, and a second driver comes."""
    shift = trial.rng.choice([-3600, -60, 60, 3600])
    for path in [*trial.store.rglob("*")]:
        with contextlib.suppress(OSError):
            os.utime(path, (time.time() + shift, time.time() + shift))
    trial.start()
    yield f"{shift:+} s"


@contextlib.contextmanager
def _read_only(trial: Trial) -> Iterator[str]:
    with mounted(["--bind", os.fspath(trial.store)], trial.store):
        remount = ["mount", "-o", "remount,bind,ro", os.fspath(trial.store)]
        while subprocess.run(remount, check=False, capture_output=True).returncode:
            time.sleep(0.01)  # a file is being written
        time.sleep(trial.rng.uniform(0.5, 3))
    yield "store"


@contextlib.contextmanager
def _away(trial: Trial) -> Iterator[str]:
    with mounted(["-t", "tmpfs", "-o", "ro", "tmpfs"], trial.store):
        time.sleep(trial.rng.uniform(0.5, 3))
    yield "store"


@contextlib.contextmanager
def _full(trial: Trial) -> Iterator[str]:
    filler = trial.store / ".filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(trial.rng.uniform(0.5, 3))
    try:
        yield "store"
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted(what: Sequence[str], folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *what, os.fspath(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", os.fspath(folder)], check=True)


_FILES = "[a-z]*/[a-z0-9]*/[sm][te]*"  # state and metrics.jsonl of artifacts
_RECORDS = "[a-z]*/[a-z0-9]*/record.json"
_CHECKPOINTS = "*/.partial-*/checkpoints/[0-9]*/**/*"
_LEASES = "leases/[0-9a-f]*"
WORKER = "ray::StageW"  # Ray has agents whose names begin with ray:: too

FAULTS = (
    Fault("driver: SIGKILL", _signals(signal.SIGKILL)),
    Fault("driver: SIGTERM", _signals(signal.SIGTERM)),
    Fault("driver: SIGINT", _signals(signal.SIGINT)),
    Fault("driver: SIGINT three times", _signals(*[signal.SIGINT] * 3)),
    Fault("driver: SIGSTOP, SIGCONT", _signals(signal.SIGSTOP, signal.SIGCONT, pause=2.0), reruns=False),
    Fault("two drivers", _second_driver, reruns=False),
    Fault("two drivers, one killed", _killed_beside_another),
    Fault("driver suspended past its leases", _suspended, reruns=False),
    Fault("worker: SIGKILL", _process(WORKER, signal.SIGKILL), with_ray=True),
    Fault("worker: SIGTERM", _process(WORKER, signal.SIGTERM), with_ray=True),
    Fault("worker: SIGSTOP, SIGCONT", _process(WORKER, signal.SIGSTOP, signal.SIGCONT), with_ray=True, reruns=False),
    Fault("raylet: SIGKILL", _process("raylet", signal.SIGKILL), with_ray=True),
    Fault("raylet: SIGSTOP, SIGCONT", _process("raylet", signal.SIGSTOP, signal.SIGCONT), with_ray=True),
    Fault("gcs_server: SIGKILL", _process("gcs_server", signal.SIGKILL), with_ray=True),
    Fault("gcs_server: SIGSTOP, SIGCONT", _process("gcs_server", signal.SIGSTOP, signal.SIGCONT), with_ray=True),
    Fault("artifact: file cut", _file(_FILES, _cut), damages=True),
    Fault("artifact: bit flipped", _file(_FILES, _flip), damages=True),
    Fault("artifact: file emptied", _file(_FILES, _empty), damages=True),
    Fault("artifact: file removed", _file(_FILES, _remove), damages=True),
    Fault("artifact: folder removed", _artifact_removed, damages=True),
    Fault("record: cut", _file(_RECORDS, _cut), damages=True),
    Fault("record: bit flipped", _file(_RECORDS, _flip), damages=True),
    Fault("record: emptied", _file(_RECORDS, _empty), damages=True),
    Fault("record: removed", _file(_RECORDS, _remove), damages=True),
    Fault("checkpoint: file cut", _file(_CHECKPOINTS, _cut, after_kill=True), early=True),
    Fault("checkpoint: bit flipped", _file(_CHECKPOINTS, _flip, after_kill=True), early=True),
    Fault("checkpoint: file emptied", _file(_CHECKPOINTS, _empty, after_kill=True), early=True),
    Fault("checkpoint: file removed", _file(_CHECKPOINTS, _remove, after_kill=True), early=True),
    Fault("checkpoint: folder emptied", _checkpoint_emptied, early=True),
    Fault("lease: torn", _file(_LEASES, _cut), reruns=False),
    Fault("lease: torn, its driver killed", _file(_LEASES, _cut, after_kill=True)),
    Fault("lease: binary, its driver killed", _file(_LEASES, _garble, after_kill=True)),
    Fault("lease: of another version", _file(_LEASES, _other_version), reruns=False),
    Fault("failure.json: binary", _failure_garbled, reruns=False),
    Fault("store: folder of a kind removed", _kind_removed, damages=True),
    Fault("store: removed", _store_removed, damages=True),
    Fault("store: read-only for a while", _read_only, mounts=True),
    Fault("store: away for a while", _away, mounts=True),
    Fault("store: full for a while", _full, mounts=True, small=True),
    Fault("clocks: files of the past or the future", _clocks, reruns=False),
)


def can_mount() -> bool:
    """Whether this user may mount file systems."""
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        return made.returncode == 0 and subprocess.run(["umount", folder], check=False).returncode == 0
