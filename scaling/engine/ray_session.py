"""Ray itself: started here or joined, watched while stages run, and ended, each within a bounded time.

In: the address of a cluster, or None to start one on this machine. Out: a `Session`; `CannotStart` if Ray does not
start, `ClusterLost` if it dies, each with one sentence for the user. Ray does not tell a driver that its raylet or its
control service (GCS) is dead: calls wait for a minute, or forever. So a thread watches both, and ends this process if
the main thread is stuck in such a call.
"""

import contextlib
import ctypes
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
import ray.util.client

from scaling.config.errors import ConfigError
from scaling.engine.interrupts import keeping_handlers, undisturbed
from scaling.engine.placement import usable_cores
from scaling.engine.provenance import PROJECT
from scaling.engine.run import CannotStart, ClusterLost
from scaling.engine.worker import PACKAGES

ANSWER_SECONDS = 10.0  # for a cluster's address to accept a connection
LOOK_SECONDS = 1.0  # between looks at Ray's processes
SILENT_SECONDS = 5.0  # for which a cluster's address may refuse connections
STUCK_SECONDS = 20.0  # for the main thread to return from Ray's calls after Ray has died
STARTS = 2  # attempts, if Ray times out
OBJECT_STORE_BYTES = 100 * 2**20  # stages hand over files, not objects
CLIENT_PORT = 10001  # of ray://HOST
SOCKET_PATH_LIMIT = 107  # bytes, the kernel's
SOCKET_PATH = "/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
SET_CHILD_SUBREAPER = 36  # of prctl
ESSENTIAL = {"raylet": "raylet", "gcs_server": "control service (GCS)"}


class Session:
    """A connection to Ray. Use as a context manager; if this process has one already, it is used and left open."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._owns = False
        self._own_node: str | None = None
        self._fault: str | None = None
        self._others: frozenset[Any] = frozenset()  # Ray processes below this one that belong to no session of ours
        self._closed = threading.Event()

    def __enter__(self) -> "Session":
        self._owns = not ray.is_initialized()
        if self._owns:
            if not self._address:
                _adopt_orphans()
                self._others = frozenset(_processes())
            try:
                with keeping_handlers():
                    _join(self._address) if self._address else _start()
            except BaseException:
                with undisturbed():
                    self._end()  # the part that has started already
                raise
            threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()
        if not ray.util.client.ray.is_connected():
            self._own_node = ray.get_runtime_context().get_node_id()
        return self

    def __exit__(self, *error: object) -> None:
        if self._owns and not (self._address and self._fault):  # a driver of a dead cluster would wait for it
            self._end()
        self._closed.set()

    def _end(self) -> None:
        if self._address:
            ray.shutdown()
            return
        started = self._started()
        ray.shutdown()
        _kill([*started, *self._started()])

    def _started(self) -> list[Any]:
        return [process for process in _processes() if process not in self._others]

    @property
    def is_lost(self) -> bool:
        """Whether Ray is dead."""
        return self._fault is not None

    def check(self) -> None:
        """Raise ClusterLost when Ray is dead."""
        if self._fault:
            raise ClusterLost(self._fault)

    def nodes(self) -> list[dict[str, Any]]:
        """The living nodes, as ray.nodes() describes them; ClusterLost if that of this process is dead."""
        self.check()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if self._own_node and self._own_node not in {node["NodeID"] for node in nodes}:
            self._fault = _lost("Ray's node on this machine has died")
            self.check()
        return nodes

    def _watch(self) -> None:
        look = _Refusals(_watched_address(self._address)).fault if self._address else _dead_process
        while self._fault is None:
            if self._closed.wait(LOOK_SECONDS):
                return
            self._fault = look()
        if not self._closed.wait(STUCK_SECONDS):
            sys.stderr.write(f"error: {self._fault}\n")
            sys.stderr.flush()
            if not self._address:
                _kill(self._started())
            os._exit(ClusterLost.exit_status)


class _Refusals:
    """Whether an address has refused connections for too long."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._since: float | None = None

    def fault(self) -> str | None:
        try:
            socket.create_connection(self._address, timeout=SILENT_SECONDS).close()
        except OSError as error:
            now = time.monotonic()
            self._since = self._since or now
            if now - self._since >= SILENT_SECONDS:
                host, port = self._address
                return _lost(f"The Ray cluster at {host}:{port} does not answer any more ({error})")
        else:
            self._since = None
        return None


def _dead_process() -> str | None:
    # What ray.init has started, until ray.shutdown; Ray has no public name for it.
    node: ray._private.node.Node | None = ray._private.worker._global_node
    for name, process in node.dead_processes() if node else ():
        if name in ESSENTIAL:
            return _lost(f"Ray's {ESSENTIAL[name]} on this machine has ended (exit status {process.returncode})")
    return None


def _lost(what: str) -> str:
    return f"{what}, so no stage can run. What is done is stored: run the same command again to continue."


def _adopt_orphans() -> None:
    """Make this process the parent of what a dead raylet leaves behind, so that we find it and end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _processes() -> list[Any]:
    """Ray's processes below this one, including agents of a dead raylet and those of an interrupted start."""
    import psutil  # comes with Ray

    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if command.startswith("ray::") or "/ray/" in command:
                found.append(process)
    return found


def _kill(processes: list[Any]) -> None:
    """Ray's agents outlive its raylet and its control service for a while."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _watched_address(address: str) -> tuple[str, int]:
    """The address of a cluster's control service, or for ray:// of the server that it names."""
    if "://" not in address:
        address = ray.get_runtime_context().gcs_address
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if colon else (port, CLIENT_PORT)


def _start() -> None:
    """Start Ray on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_folder()
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=len(usable_cores()),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # Ray has no exception class for a failed start
            ray.shutdown()
            timed_out = isinstance(error, TimeoutError) or "timed out" in str(error)
            if attempt == STARTS or not timed_out:
                raise CannotStart(_why_not(error, attempt)) from error


def _check_folder() -> None:
    """Fail at once: Ray would try for half a minute, and then say that it timed out."""
    folder = _temporary_folder()
    if len(os.fsencode(folder + SOCKET_PATH)) > SOCKET_PATH_LIMIT:
        raise CannotStart(
            f"Ray cannot start: its sockets below {folder} would have paths longer than {SOCKET_PATH_LIMIT} bytes. Set"
            " RAY_TMPDIR to a shorter folder, such as /tmp."
        )


def _why_not(error: Exception, attempts: int) -> str:
    found = " ".join(str(error).split()).rstrip(".")
    tried = f" {attempts} times" if attempts > 1 else ""
    return (
        f"Ray cannot start{tried}: {found}. It needs a folder for its files that can be written,"
        f" {_temporary_folder()} (RAY_TMPDIR sets another), a home for its token, {Path('~').expanduser()} (HOME sets"
        " another), and a machine that is not overloaded. Without Ray: --inline."
    )


def _temporary_folder() -> str:
    """Found as Ray finds it."""
    return os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))


def _join(address: str) -> None:
    """Connect to a running cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    packages = [os.fspath(PROJECT / name) for name in PACKAGES]
    try:
        _check_that_something_listens(address)
        runtime_env = {"py_modules": packages}
        ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:  # no cluster there, or no address
        found = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"--address {address}: {found}. Name a cluster that runs (and set RAY_AUTH_MODE=token if it wants a"
            " token), or leave --address out to run here."
        ) from error


def _check_that_something_listens(address: str) -> None:
    """Fail soon: Ray itself would wait minutes for a cluster that does not exist."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
