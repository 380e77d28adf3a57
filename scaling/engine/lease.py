"""Leases: at most one driver on a local store runs a stage at a time, however many sweeps share the store.

In: a folder, `<store>/leases`, one file per digest. Out: who holds which stage. A lease is created exclusively and
names its host, process and time; one thread of the driver touches all leases it holds. A lease is stale when it was
not touched for `STALE_SECONDS`, or at once when its process on this machine is dead; then another driver may take it.
Object stores have no exclusive creation: there every driver holds every lease (`Leases(None)`). The clocks of hosts
that share a store must agree within half a minute.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from scaling.stage import Stage

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    stage: str  # name, for readers
    host: str
    machine: str  # tells process ids of one boot and one container apart from those of another
    pid: int
    process_start: str  # guards against a process id used again
    since: float  # seconds since the epoch
    token: str  # of this very lease


class Leases:
    """The leases of one driver. Use as a context manager: leaving it releases all of them."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held: dict[str, str] = {}  # digest -> token
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()

    def __enter__(self) -> "Leases":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        if self._thread:
            self._thread.join()
        for digest in list(self._held):
            self._release(digest)

    def acquire(self, stage: Stage) -> bool:
        """Hold the stage's lease from now on; False when a live driver, this one included, holds it."""
        if self._directory is None:
            return True
        path = self._directory / stage.digest
        self._directory.mkdir(parents=True, exist_ok=True)
        holder = _this_process(stage)
        if not _create(path, holder):
            with _exclusively(self._directory):  # so that of two that saw it stale, one removes the stale one only
                if not _is_stale(path):
                    return False
                logger.info("The lease of %s is stale and taken over.", stage.name)
                path.unlink(missing_ok=True)
                if not _create(path, holder):
                    return False
        with self._guard:
            self._held[stage.digest] = holder.token
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
            self._thread.start()
        return True

    def release(self, stage: Stage) -> None:
        """Give the stage's lease up, if it is held."""
        self._release(stage.digest)

    def is_lost(self, stage: Stage) -> bool:
        """Whether another driver took over a lease held here, because this process was suspended for too long."""
        token = self._held.get(stage.digest)
        if token is None or self._directory is None:
            return False
        holder = _read(self._directory / stage.digest)
        return holder is None or holder.token != token

    def holder(self, stage: Stage) -> Holder | None:
        """Who holds a stage's lease and is alive, or None."""
        if self._directory is None:
            return None
        path = self._directory / stage.digest
        return None if _is_stale(path) else _read(path)

    def _release(self, digest: str) -> None:
        with self._guard:
            token = self._held.pop(digest, None)
        if token is None or self._directory is None:
            return
        path = self._directory / digest
        with _exclusively(self._directory):
            holder = _read(path)
            if holder is not None and holder.token == token:
                path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            with self._guard:
                held = list(self._held)
            for digest in held:
                with contextlib.suppress(FileNotFoundError):  # released or taken over this moment
                    os.utime(self._directory / digest)


@contextlib.contextmanager
def _exclusively(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create(path: Path, holder: Holder) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(holder), file)
    return True


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):  # absent, or being written
        return None


def _is_stale(path: Path) -> bool:
    try:
        age_seconds = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    if age_seconds > STALE_SECONDS:
        return True
    holder = _read(path)
    if holder is None:
        return not path.exists()
    return holder.machine == _machine() and not _is_alive(holder)


def _is_alive(holder: Holder) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return _process_start(holder.pid) == holder.process_start


def _this_process(stage: Stage) -> Holder:
    pid = os.getpid()
    start = _process_start(pid)
    return Holder(stage.name, socket.gethostname(), _machine(), pid, start, time.time(), uuid.uuid4().hex)


def _machine() -> str:
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"


def _process_start(pid: int) -> str:
    """When a process started, in the system's own words; empty when there is none."""
    if sys.platform != "linux":
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]  # state, and starttime in ticks after the boot
