"""Run stages on Ray: long-lived worker actors that keep jax and its compiled functions.

In: a store's root, the resources of each class of stages, and optionally the address of a cluster. Out: a pool for
scaling.engine.run. Workers are made when a stage needs one and a node has room; idle ones of another shape are
ended when they hold what a ready stage needs. On a cluster of several machines, the project's packages are sent to the
nodes; its dependencies must be installed there, and all nodes must see the store. This process does not know what other
jobs of a shared cluster use, and learns only later that a node has died. So a worker that does not start in time is
given up, and its stage goes to an idle worker or back to the queue.
"""

import os
import socket
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ray

from scaling.config.errors import ConfigError
from scaling.config.memory import Memory
from scaling.engine.group import Group, start
from scaling.engine.interrupts import undisturbed
from scaling.engine.placement import Shape, compile_cache, environment, hosts_on, room, shape, usable_cores
from scaling.engine.provenance import checkout
from scaling.engine.ray_session import Session
from scaling.engine.run import ClusterLost
from scaling.engine.schedule import resource_class
from scaling.engine.store import Store
from scaling.engine.worker import DEFAULT_MEMORY, NO_RUNNERS, Done, Failed, Lost, Outcome, Runner
from scaling.plugins import loaded_plugins
from scaling.stage import Stage

NODES_SECONDS = 1.0  # after which the list of nodes is read again
IDLE_INSTEAD_SECONDS = 10.0  # after which an idle worker takes the stage of one that has not started
PATIENCE_SECONDS = 30.0  # before such a worker is given up; twice as long after each one given up in a row
MAX_PATIENCE_SECONDS = 480.0
MEMBER_SECONDS = 15.0  # to wait after a member's failure for the death of another one, which would explain it
NO_ROOM_SECONDS = 60.0  # to wait for a node to come back, when no living one has what a stage asks for


@dataclass(eq=False)
class _Worker:
    """One actor, or a group of them, and what it holds."""

    group: Group
    shape: Shape
    cores: tuple[int, ...]  # that it is pinned to
    nodes: tuple[str, ...]  # of its members; the expected ones until it is alive
    made_at: float
    is_alive: bool = False
    stage: Stage | None = None  # that it runs
    idle_since: float = 0.0


@dataclass(eq=False)
class Handle:
    """One submission of a stage."""

    stage: Stage


class RayPool:
    """Ray workers. Use as a context manager: leaving it ends them, and Ray too if it was started here."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        shipped: str | os.PathLike[str] | None,
        resources: Mapping[str, Mapping[str, float]],
        address: str | None = None,
        runners: Mapping[str, str | Runner] = NO_RUNNERS,
        memory: Memory = DEFAULT_MEMORY,
        meshes: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
        hosts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """resources: class of stages -> amounts. address: of a running cluster; None starts Ray on this machine.

        meshes: class of stages -> sizes of its mesh's axes, if it has a mesh. hosts: class of stages -> how many
        workers run one stage together, if more than one.
        """
        self._store = Store(root, shipped)
        self._shapes = {
            name: shape(amounts, meshes.get(name, {}), hosts.get(name, 1)) for name, amounts in resources.items()
        }
        self._session = Session(address)
        self._runners = dict(runners)
        self._memory = memory
        self._workers: list[_Worker] = []
        self._calls: dict[Handle, tuple[list[ray.ObjectRef[Outcome]], _Worker]] = {}  # with pending references
        self._outcomes: dict[Handle, Outcome] = {}  # of the first member of a group, while others still run
        self._failures: dict[Handle, tuple[Failed, float]] = {}  # of a member, and how long to wait for an explanation
        self._cores: list[int] = []  # cores of this machine that no worker is pinned to
        self._on_this_machine = True
        self._nodes: dict[str, Mapping[str, float]] = {}  # those alive: id -> resources
        self._listed_at = float("-inf")
        self._patience_seconds = PATIENCE_SECONDS
        self._no_room_since: float | None = None

    def __enter__(self) -> "RayPool":
        self._session.__enter__()
        try:
            nodes = self._session.nodes()
            self._on_this_machine = {node["NodeManagerHostname"] for node in nodes} == {socket.gethostname()}
            self._cores = list(usable_cores()) if self._on_this_machine and hasattr(os, "sched_setaffinity") else []
            self._check_that_shapes_fit(nodes)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with undisturbed():  # a second Ctrl-C would leave some of Ray's processes behind
            for worker in list(self._workers):
                self._end(worker)
            self._session.__exit__()

    def has_room(self, stage: Stage) -> bool:
        """Whether a worker is idle, or one can be made, if necessary by ending idle ones."""
        wanted = self._shape_of(stage)
        self._list_nodes()
        if any(worker.stage is None and worker.shape == wanted for worker in self._workers):
            return True
        if room(wanted, self._free([worker for worker in self._workers if worker.stage is not None])):
            return True
        if self._no_room_since is None and not room(wanted, self._nodes):
            self._no_room_since = time.monotonic()
        return False

    def submit(self, stage: Stage) -> Handle | None:
        """Start the stage on a worker of its shape; None if there is no room now."""
        if not self.has_room(stage):
            return None
        if not self._on_this_machine:
            for parent in stage.inputs.values():
                self._store.adopt(parent)
        handle = Handle(stage)
        self._give(handle, self._worker(self._shape_of(stage)))
        self._no_room_since = None
        return handle

    def wait(self, handles: Sequence[Handle], timeout_seconds: float) -> list[tuple[Handle, Outcome]]:
        """The available outcomes, as soon as there is one; empty after the timeout."""
        self._session.check()
        self._list_nodes()
        if not handles:
            self._check_that_a_node_is_left()
            time.sleep(timeout_seconds)
            return []
        self._notice_started_workers()
        if found := [*self._without_worker(), *self._unexplained_failures()]:
            return found
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
        """End the workers of these stages at once; what they have not committed is lost."""
        for handle in () if self._session.is_lost else handles:
            if handle in self._calls:
                for actor in self._calls[handle][1].group.actors:
                    ray.kill(actor)

    def _give(self, handle: Handle, worker: _Worker) -> None:
        worker.stage = handle.stage
        self._calls[handle] = (list(worker.group.run(handle.stage)), worker)

    def _outcome(self, handle: Handle, reference: ray.ObjectRef[Outcome]) -> Outcome | None:
        """What a member reports: the stage's outcome if it is the last one, or has failed or died; else None."""
        references, worker = self._calls[handle]
        references.remove(reference)
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayTaskError:  # outside the stage itself, such as a store that cannot be reached
            outcome = Failed(self._store.fail(handle.stage, traceback.format_exc(), ""))
        except ray.exceptions.RayError as error:
            self._session.check()
            outcome = _loss(error)
        if worker.shape.hosts > 1 and isinstance(outcome, Done):
            first = self._outcomes.setdefault(handle, outcome)
            if references:
                return None
            outcome = first
        if references and isinstance(outcome, Failed) and handle not in self._failures:
            self._failures[handle] = (outcome, time.monotonic() + MEMBER_SECONDS)
            return None
        failed, _ = self._failures.get(handle, (None, None))
        if failed and isinstance(outcome, Lost):
            self._store.clear_failure(handle.stage)  # the death explains it
        return self._settle(handle, outcome if isinstance(outcome, Lost) else failed or outcome)

    def _settle(self, handle: Handle, outcome: Outcome) -> Outcome:
        """The stage is over: its worker is idle, or is ended if it cannot go on."""
        _, worker = self._calls.pop(handle)
        self._outcomes.pop(handle, None)
        self._failures.pop(handle, None)
        if isinstance(outcome, Lost) or (worker.shape.hosts > 1 and not isinstance(outcome, Done)):
            self._end(worker)
        else:
            worker.stage = None
            worker.idle_since = time.monotonic()
        return outcome

    def _unexplained_failures(self) -> list[tuple[Handle, Outcome]]:
        now = time.monotonic()
        overdue = [(handle, failed) for handle, (failed, until) in self._failures.items() if now > until]
        return [(handle, self._settle(handle, failed)) for handle, failed in overdue]

    def _notice_started_workers(self) -> None:
        for worker in self._workers:
            if worker.is_alive:
                continue
            _, rest = ray.wait(list(worker.group.places), num_returns=len(worker.group.places), timeout=0)
            if rest:
                continue
            worker.is_alive = True
            self._patience_seconds = PATIENCE_SECONDS
            try:
                worker.nodes = tuple(ray.get(list(worker.group.places)))
            except ray.exceptions.RayError:
                continue  # it is dead already, as the call of its stage will show

    def _without_worker(self) -> list[tuple[Handle, Outcome]]:
        """Stages whose worker is on a dead node, or did not start in time and has no idle one to replace it."""
        found: list[tuple[Handle, Outcome]] = []
        now = time.monotonic()
        for handle, (_, worker) in list(self._calls.items()):
            if worker.is_alive:
                if not set(worker.nodes) <= self._nodes.keys():
                    found.append((handle, self._settle(handle, Lost("its node has died"))))
                continue
            age = now - worker.made_at
            idle = next((one for one in self._idle() if one.shape == worker.shape and one.is_alive), None)
            if idle is not None and min(age, now - idle.idle_since) > IDLE_INSTEAD_SECONDS:
                self._end(worker)
                self._give(handle, idle)
            elif age > self._patience_seconds:
                reason = f"its worker was not there within {self._patience_seconds:.0f} s; back to the queue"
                self._patience_seconds = min(2 * self._patience_seconds, MAX_PATIENCE_SECONDS)
                found.append((handle, self._settle(handle, Lost(reason, "start"))))
                for other in self._idle():
                    if any(other.shape.amount(name) for name, _ in worker.shape.amounts):
                        self._end(other)  # it may hold what the next try needs
        return found

    def _idle(self) -> list[_Worker]:
        """The idle workers, those that have been idle longest first."""
        return sorted((one for one in self._workers if one.stage is None), key=lambda worker: worker.idle_since)

    def _worker(self, wanted: Shape) -> _Worker:
        idle = self._idle()
        for worker in idle:
            if worker.shape == wanted:
                return worker
        ended: list[_Worker] = []
        for worker in idle:
            if room(wanted, self._free([one for one in self._workers if one not in ended])):
                break
            ended.append(worker)
        for worker in ended:  # one whose end makes no room stays
            others = [one for one in ended if one is not worker and one in self._workers]
            if not room(wanted, self._free([one for one in self._workers if one not in others])):
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
            loaded_plugins(),
        )
        nodes = room(wanted, self._free(self._workers))
        worker = _Worker(start(wanted, variables, arguments), wanted, cores, nodes, time.monotonic())
        self._workers.append(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        if not self._session.is_lost:  # otherwise it ends by itself
            worker.group.end()
        self._workers.remove(worker)
        self._cores = sorted([*self._cores, *worker.cores])

    def _free(self, holders: Sequence[_Worker]) -> dict[str, dict[str, float]]:
        """What each living node has left, apart from what these workers hold."""
        free = {node: dict(amounts) for node, amounts in self._nodes.items()}
        for worker in holders:
            for node in worker.nodes:
                for name, amount in worker.shape.amounts if node in free else ():
                    free[node][name] = free[node].get(name, 0.0) - amount
        return free

    def _list_nodes(self) -> None:
        """List the living nodes; idle workers on dead ones are ended."""
        now = time.monotonic()
        if now - self._listed_at < NODES_SECONDS:
            return
        self._nodes = {node["NodeID"]: node["Resources"] for node in self._session.nodes()}
        self._listed_at = now
        for worker in self._idle():
            if not set(worker.nodes) <= self._nodes.keys():
                self._end(worker)

    def _check_that_a_node_is_left(self) -> None:
        if self._no_room_since is None or time.monotonic() - self._no_room_since < NO_ROOM_SECONDS:
            return
        wanted = "; ".join(name for name, one in self._shapes.items() if not room(one, self._nodes))
        if wanted:
            raise ClusterLost(
                f"No node of the Ray cluster that is alive has what resources.{wanted} asks for, since nodes have died."
                " What is done is stored: run the same command again when they are back."
            )
        self._no_room_since = None

    def _shape_of(self, stage: Stage) -> Shape:
        return self._shapes[resource_class(stage)]

    def _check_that_shapes_fit(self, nodes: Sequence[Mapping[str, Any]]) -> None:
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


def _loss(error: ray.exceptions.RayError) -> Lost:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        first, _, _ = str(error).partition("\n")  # the rest is an inventory of the node
        return Lost(first, "memory")
    return Lost(f"{type(error).__name__}: {error}")
