"""Run stages on Ray: long-lived worker actors that keep jax and its compiled functions.

In: a store's root, the resources of each class of stages, and optionally the address of a cluster. Out: a pool for
scaling.engine.run. Workers are made when a stage needs one and the cluster has room; idle ones of another shape are
ended when they hold what a ready stage needs. On a cluster that is not this machine alone, the project's packages
are sent to the nodes; its dependencies must be installed there, and the store must be one that all nodes see. What
other jobs of a shared cluster use is not known here: a worker that finds no room yet waits in Ray's queue.
"""

import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import ray

from scaling.config_error import ConfigError
from scaling.engine.group import Group, start
from scaling.engine.placement import Shape, compile_cache, environment, fits, hosts_on, shape, usable_cores
from scaling.engine.provenance import PROJECT, checkout
from scaling.engine.schedule import resource_class
from scaling.engine.store import Store
from scaling.engine.worker import DEFAULT_MEMORY, PACKAGES, RUNNERS, Done, Failed, Lost, Outcome, Runner
from scaling.memory_config import Memory
from scaling.stage import Stage

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0  # for a cluster's address to accept a connection
OBJECT_STORE_BYTES = 100 * 2**20  # stages hand over files, not objects


@dataclass(eq=False)
class _Worker:
    """One actor, or a group of them, and what it holds."""

    group: Group
    shape: Shape
    cores: tuple[int, ...]  # it is pinned to
    stage: Stage | None = None  # it runs
    idle_since: float = 0.0


@dataclass(frozen=True)
class Handle:
    """A stage that was submitted."""

    number: int
    stage: Stage


class RayPool:
    """Ray workers. Use as a context manager: leaving it ends them, and Ray too where it was started here."""

    def __init__(
        self,
        root: str | os.PathLike,
        shipped: str | os.PathLike | None,
        resources: Mapping[str, Mapping[str, float]],
        address: str | None = None,
        runners: Mapping[str, str | Runner] = RUNNERS,
        memory: Memory = DEFAULT_MEMORY,
        meshes: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
        hosts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """resources: class of stages -> amounts. address: of a running cluster; None starts Ray on this machine.

        meshes: class of stages -> sizes of its mesh's axes, where it has one. hosts: class of stages -> how many
        workers run one stage together, where it is more than one.
        """
        self._store = Store(root, shipped)
        self._shapes = {
            name: shape(amounts, meshes.get(name, {}), hosts.get(name, 1)) for name, amounts in resources.items()
        }
        if not self._store.is_local and any(wanted.hosts > 1 for wanted in self._shapes.values()):
            raise ConfigError(
                f"resources.hosts asks for several hosts, but the store is {self._store.root}; the hosts of a stage"
                " write its checkpoints together, so the store must be a folder that all of them see."
            )
        self._address = address
        self._runners = dict(runners)
        self._memory = memory
        self._workers: list[_Worker] = []
        self._calls: dict[Handle, tuple[list[ray.ObjectRef], _Worker]] = {}  # with what is not there yet
        self._outcomes: dict[Handle, Outcome] = {}  # of the first member of a group, while others go on
        self._numbers = itertools.count()
        self._cores: list[int] = []  # of this machine, that no worker is pinned to
        self._started_ray = False
        self._on_this_machine = True

    def __enter__(self) -> "RayPool":
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _start(self._address)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._on_this_machine = {node["NodeManagerHostname"] for node in nodes} == {socket.gethostname()}
        self._cores = list(usable_cores()) if self._on_this_machine and hasattr(os, "sched_setaffinity") else []
        try:
            self._check_that_shapes_fit(nodes)
        except ConfigError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with _ignoring_ctrl_c():  # a second one would leave some of Ray's processes behind
            for worker in list(self._workers):
                self._end(worker)
            if self._started_ray:
                ray.shutdown()

    def has_room(self, stage: Stage) -> bool:
        """Whether a worker is idle, or one can be made, if need be by ending idle ones."""
        wanted = self._shape_of(stage)
        if any(worker.stage is None and worker.shape == wanted for worker in self._workers):
            return True
        return fits(wanted, self._free([worker for worker in self._workers if worker.stage is not None]))

    def submit(self, stage: Stage) -> Handle | None:
        """Start the stage on a worker of its shape; None when there is no room now."""
        if not self.has_room(stage):
            return None
        if not self._on_this_machine:
            for parent in stage.inputs.values():
                self._store.adopt(parent)
        worker = self._worker(self._shape_of(stage))
        worker.stage = stage
        handle = Handle(next(self._numbers), stage)
        self._calls[handle] = (list(worker.group.run(stage)), worker)
        return handle

    def wait(self, handles: Sequence[Handle], timeout_seconds: float) -> list[tuple[Handle, Outcome]]:
        """The outcomes that are there, as soon as there is one; none after the timeout."""
        if not handles:
            time.sleep(timeout_seconds)
            return []
        waiting = {reference: handle for handle in handles for reference in self._calls[handle][0]}
        ready, rest = ray.wait(list(waiting), num_returns=1, timeout=timeout_seconds)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        found = []
        for reference in ready:
            handle = waiting[reference]
            if handle in self._calls and (outcome := self._outcome(handle, reference)) is not None:
                found.append((handle, outcome))
        return found

    def cancel(self, handles: Iterable[Handle]) -> None:
        """End the workers of these stages at once; what they had not committed is not there."""
        for handle in handles:
            if handle in self._calls:
                for actor in self._calls[handle][1].group.actors:
                    ray.kill(actor)

    def _outcome(self, handle: Handle, reference: ray.ObjectRef) -> Outcome | None:
        """What a member says: the stage's outcome when it is the last, or has failed or died; else None."""
        references, worker = self._calls[handle]
        references.remove(reference)
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayTaskError:  # outside of the stage itself: the store cannot be reached, say
            outcome = Failed(self._store.fail(handle.stage, traceback.format_exc(), ""))
        except ray.exceptions.RayError as error:
            outcome = Lost(f"{type(error).__name__}: {error}")
        if worker.shape.hosts > 1 and isinstance(outcome, Done):
            first = self._outcomes.setdefault(handle, outcome)
            if references:
                return None
            outcome = first
        self._outcomes.pop(handle, None)
        del self._calls[handle]
        if isinstance(outcome, Lost) or (worker.shape.hosts > 1 and not isinstance(outcome, Done)):
            self._end(worker)
        else:
            worker.stage = None
            worker.idle_since = time.monotonic()
        return outcome

    def _worker(self, wanted: Shape) -> _Worker:
        idle = [worker for worker in self._workers if worker.stage is None]
        for worker in idle:
            if worker.shape == wanted:
                return worker
        for worker in sorted(idle, key=lambda worker: worker.idle_since):
            free = self._free(self._workers)
            if fits(wanted, free):
                break
            if any(worker.shape.amount(name) and free.get(name, 0.0) < amount for name, amount in wanted.amounts):
                self._end(worker)
        return self._make(wanted)

    def _make(self, wanted: Shape) -> _Worker:
        number = wanted.whole_cores
        cores = tuple(self._cores[:number]) if len(self._cores) >= number else ()
        del self._cores[: len(cores)]
        variables = environment(wanted, compile_cache(self._store.root))
        arguments = (
            os.fspath(self._store.root),
            None if self._store.shipped is None else os.fspath(self._store.shipped),
            self._runners,
            checkout(),
            cores,
            self._memory,
            dict(wanted.mesh),
        )
        worker = _Worker(start(wanted, variables, arguments), wanted, cores)
        self._workers.append(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        worker.group.end()
        self._workers.remove(worker)
        self._cores = sorted([*self._cores, *worker.cores])

    def _free(self, holders: Sequence[_Worker]) -> dict[str, float]:
        """What the cluster has besides what these workers hold."""
        free = dict(ray.cluster_resources())
        for worker in holders:
            for name, amount in worker.shape.amounts:
                free[name] = free.get(name, 0.0) - worker.shape.hosts * amount
        return free

    def _shape_of(self, stage: Stage) -> Shape:
        return self._shapes[resource_class(stage)]

    def _check_that_shapes_fit(self, nodes: Sequence[Mapping]) -> None:
        for name, wanted in self._shapes.items():
            if sum(hosts_on(wanted, node["Resources"]) for node in nodes) >= wanted.hosts:
                continue
            amounts = ", ".join(f"{resource} {amount:g}" for resource, amount in wanted.amounts)
            times = f" on each of {wanted.hosts} hosts" if wanted.hosts > 1 else ""
            present = ", ".join(f"{key} {value:g}" for key, value in sorted(ray.cluster_resources().items()))
            raise ConfigError(
                f"resources.{name} asks for {amounts}{times}, but no node of the Ray cluster has that much; it has in"
                f" all: {present}. Lower resources.{name}, or give --address of a cluster that has it."
            )


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Ctrl-C does not arrive
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            num_cpus=len(usable_cores()),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
    else:
        packages = [os.fspath(PROJECT / name) for name in PACKAGES]
        try:
            _check_that_something_listens(address)
            ray.init(address=address, runtime_env={"py_modules": packages}, **quiet)
        except (OSError, ValueError) as error:  # no cluster there, or no address
            found = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                f"--address {address}: {found}. Name a cluster that runs (and set RAY_AUTH_MODE=token if it wants a"
                " token), or leave --address out to run here."
            ) from error


def _check_that_something_listens(address: str) -> None:
    """Ray itself would wait for minutes for a cluster that is not there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
