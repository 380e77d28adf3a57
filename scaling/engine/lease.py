"""Leases: at most one driver on a local store runs a stage at a time, even if several sweeps share the store.

In: a folder, `<store>/leases`, one file per digest. Out: the holder of each stage. A lease is created exclusively and
names its host, process and time; one thread of the driver touches all leases it holds. A lease is stale when it was
not touched for `STALE_SECONDS`, or at once when its process on this machine is dead; then another driver may take it.
Object stores have no exclusive creation: there every driver holds every lease (`Leases(None)`). The clocks of hosts
that share a store must agree within half a minute. A lease that cannot be read, because it is torn or of another
version, has an unknown holder until it is stale.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from scaling.filelock import FileLock
from scaling.stage import DIGEST_LENGTH, Stage

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
LOCK_SECONDS = 60.0  # how long to wait for the lock of the folder, which is held only briefly
LOCK = ".lock"


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Holder:
    """Who holds a lease."""

    stage: str  # name, for messages
    host: str
    machine: str  # distinguishes process ids of one boot and one container from those of another
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    process_start: str  # guards against reused process ids
    since: Annotated[float, Field(ge=0.0, lt=1e11)]  # seconds since the epoch
    token: str  # unique to this lease


_HOLDERS = TypeAdapter(Holder)


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

    def __exit__(self, *error: object) -> None:
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
        pid, since = os.getpid(), time.time()
        start = _process_start(pid)
        holder = Holder(stage.name, socket.gethostname(), _machine(), pid, start, since, uuid.uuid4().hex)
        if not _create(path, holder):
            with _locked(self._directory):  # if two drivers see it stale, only one may remove it
                if not _is_stale(path):
                    return False
                logger.info("The lease of %s is stale and taken over.", stage.name)
                path.unlink(missing_ok=True)
                if not _create(path, holder):
                    return False
        with self._guard:
            self._held[stage.digest] = holder.token
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._beat, args=(self._directory,), name="lease-heartbeat", daemon=True
            )
            self._thread.start()
        return True

    def release(self, stage: Stage) -> None:
        """Release the stage's lease, if it is held."""
        self._release(stage.digest)

    def is_lost(self, stage: Stage) -> bool:
        """Whether another driver took over a lease held here, because this process was suspended for too long."""
        token = self._held.get(stage.digest)
        if token is None or self._directory is None:
            return False
        path = self._directory / stage.digest
        holder = _read(path)
        return not path.exists() if holder is None else holder.token != token

    def holder(self, stage: Stage) -> Holder | None:
        """The live holder of a stage's lease, or None."""
        if self._directory is None:
            return None
        path = self._directory / stage.digest
        if _is_stale(path):
            return None
        return _read(path) or _unknown_holder(path, stage)

    def clear_stale(self) -> int:
        """Remove the stale leases that killed drivers left, of any stage. Returns how many."""
        if self._directory is None or not self._directory.is_dir():
            return 0
        try:
            stale = [path for path in self._directory.iterdir() if len(path.name) == DIGEST_LENGTH and _is_stale(path)]
            if not stale:
                return 0
            with _locked(self._directory):
                left = [path for path in stale if path.exists() and _is_stale(path)]
                for path in left:
                    path.unlink(missing_ok=True)
            return len(left)
        except OSError as error:
            logger.warning("Leases of killed sweeps in %s cannot be removed: %s.", self._directory, error)
            return 0

    def _release(self, digest: str) -> None:
        with self._guard:
            token = self._held.pop(digest, None)
        if token is None or self._directory is None:
            return
        path = self._directory / digest
        if not path.exists():  # taken over and released meanwhile, or the store was deleted
            return
        try:
            with _locked(self._directory):
                holder = _read(path)
                if holder is not None and holder.token == token:
                    path.unlink(missing_ok=True)
        except OSError as error:  # it becomes stale, now or with the end of this process
            logger.warning("The lease %s cannot be released: %s.", path, error)

    def _beat(self, directory: Path) -> None:
        troubled = False
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            with self._guard:
                held = list(self._held)
            trouble = [error for digest in held if (error := _touch(directory / digest)) is not None]
            if trouble and not troubled:
                logger.warning(
                    "Leases cannot be renewed: %s. If this lasts %.0f s, another sweep may take them over.",
                    trouble[0],
                    STALE_SECONDS,
                )
            troubled = bool(trouble)


def _locked(directory: Path) -> FileLock:
    return FileLock.acquire(directory / LOCK, LOCK_SECONDS)


def _touch(path: Path) -> OSError | None:
    try:
        os.utime(path)
    except FileNotFoundError:  # released or taken over this moment
        return None
    except OSError as error:  # the server may come back
        return error
    return None


def _create(path: Path, holder: Holder) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(holder), file)
    except OSError:  # a full disk: without an owner the lease must not stay
        path.unlink(missing_ok=True)
        raise
    return True


def _read(path: Path) -> Holder | None:
    """The holder named in the lease; None if it is missing, torn, being written or of another version."""
    try:
        holder = _HOLDERS.validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return holder if holder.pid > 0 else None  # 0 and below are groups of processes


def _unknown_holder(path: Path, stage: Stage) -> Holder | None:
    try:
        since = path.stat().st_mtime
    except OSError:
        return None
    return Holder(stage.name, "an unknown host", "", 0, "", since, "")


def _is_stale(path: Path) -> bool:
    try:
        age_seconds = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    except OSError:  # the server is unreachable for now
        return False
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


def _machine() -> str:
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"


def _process_start(pid: int) -> str:
    """When a process started, in the system's format; empty if there is no such process."""
    if sys.platform != "linux":
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]  # state, and starttime in ticks after the boot
