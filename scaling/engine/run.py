"""Run a plan: the loop of ready, running and done.

In: stages, a store, a pool that runs one stage per slot (Ray workers in scaling.engine.pool, this process in
scaling.engine.inline), and something that reports progress. Out: a `Report`. Stored stages are not run; a failed stage
blocks only its descendants; the loop waits for a stage that another sweep runs on the same store. A stage whose inputs
turn out to be damaged is left to the next execution, which makes them again first.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from scaling.engine.interrupts import undisturbed
from scaling.engine.lease import STALE_SECONDS, Holder, Leases
from scaling.engine.progress import Progress
from scaling.engine.schedule import Schedule, resource_class
from scaling.engine.store import Store
from scaling.engine.worker import Done, Elsewhere, Failed, Lost, Outcome, Spoiled
from scaling.stage import Stage, in_order

MAX_LOSSES = 3  # of workers that died on one stage, before it counts as failed
PAUSE_SECONDS = 20.0  # before the next try, after Ray ended a worker for lack of memory; doubled each time
WAIT_SECONDS = 1.0  # how long to wait for an outcome before progress is shown
ELSEWHERE_SECONDS = 0.5  # how often to look at stages that another sweep runs


class Outage(RuntimeError):
    """The resources for stages are missing. The message is a sentence for the user."""

    exit_status: int  # of the command


class CannotStart(Outage):
    """Ray does not start."""

    exit_status = 3


class ClusterLost(Outage):
    """Ray has died, or no remaining node has what a stage needs."""

    exit_status = 4


H = TypeVar("H", bound=Hashable)  # a pool's handle of a stage that it runs


class Pool(Protocol[H]):
    """Where stages run. `wait` raises ClusterLost if it is gone."""

    def has_room(self, stage: Stage) -> bool:
        """Whether `submit` would take the stage now."""

    def submit(self, stage: Stage) -> H | None:
        """Start the stage and return its handle, or None if there is no room now."""

    def wait(self, handles: Sequence[H], timeout_seconds: float) -> list[tuple[H, Outcome]]:
        """The available outcomes, as soon as there is one; empty after the timeout."""

    def cancel(self, handles: Iterable[H]) -> None:
        """End running stages; if waited for, their outcome is Lost."""


@dataclass(frozen=True)
class Report:
    """The results of an execution."""

    done: tuple[Stage, ...]  # run here
    reused: tuple[Stage, ...]  # found in the store, at the start or because another sweep finished them
    failed: tuple[tuple[Stage, dict[str, Any]], ...]  # with the failure as Store.failure gives it
    blocked: tuple[Stage, ...]  # descend from a failed stage
    remaining: tuple[Stage, ...]  # neither, because of an interrupt
    losses: int  # workers that died
    again: tuple[Stage, ...] = ()  # not run, because inputs in the store turned out to be damaged: execute once more

    @property
    def is_complete(self) -> bool:
        """Whether every stage has its artifact."""
        return not (self.failed or self.blocked or self.remaining or self.again)


def needed(stages: Iterable[Stage], store: Store) -> tuple[list[Stage], list[Stage]]:
    """The stages that must run so that all are stored, inputs first; and the stored stages that make others
    unnecessary.

    A stored stage does not need its inputs.
    """
    targets = tuple(stages)
    store.look_up_all(in_order(targets))
    to_run: dict[str, Stage] = {}
    stored: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.digest in to_run or stage.digest in stored:
            return
        if store.find(stage) is not None:
            stored[stage.digest] = stage
            return
        for parent in stage.inputs.values():
            visit(parent)
        to_run[stage.digest] = stage

    for target in targets:
        visit(target)
    return list(to_run.values()), list(stored.values())


def execute(
    stages: Iterable[Stage],
    store: Store,
    pool: Pool[H],
    progress: Progress,
    cost: Callable[[Stage], float] = lambda stage: 1.0,
    timeouts: Mapping[str, float] = MappingProxyType({}),
) -> Report:
    """Run the stages and their ancestors that are not stored. Ctrl-C stops it: see `Report.remaining`.

    cost: of a stage, in any unit; of the stages that could run, those on the most expensive chain run first.
    timeouts: class of stages -> seconds after which a stage that still runs is ended and counts as failed.
    """
    to_run, reused = needed(stages, store)
    progress.begin(to_run, reused, cost)
    with Leases(Path(store.root) / "leases" if store.is_local else None) as leases:
        progress.swept(leases.clear_stale() + store.clear_litter())
        execution = _Execution(store, pool, progress, leases, Schedule(to_run, cost), timeouts)
        try:
            with suppress(KeyboardInterrupt):
                execution.loop()
        finally:
            with undisturbed():
                pool.cancel(list(execution.running))  # before the leases are released
                progress.end()
    report = execution.report(to_run, reused)
    if report.remaining:
        progress.interrupted(len(report.remaining))
    return report


@dataclass
class _Execution(Generic[H]):
    """The state of one call of `execute`."""

    _store: Store
    _pool: Pool[H]
    _progress: Progress
    _leases: Leases
    _schedule: Schedule
    _timeouts: Mapping[str, float]
    running: dict[H, Stage] = field(default_factory=dict)
    _started: dict[H, float] = field(default_factory=dict)  # running -> monotonic time
    _overdue: set[Stage] = field(default_factory=set)  # ended because of their time-out
    _pauses: dict[Stage, float] = field(default_factory=dict)  # waits for memory -> until this monotonic time
    _elsewhere: dict[Stage, Holder | None] = field(default_factory=dict)
    _losses: Counter[Stage] = field(default_factory=Counter)
    _done: list[Stage] = field(default_factory=list)
    _reused: list[Stage] = field(default_factory=list)
    _failed: list[tuple[Stage, dict[str, Any]]] = field(default_factory=list)
    _blocked: list[Stage] = field(default_factory=list)
    _again: list[Stage] = field(default_factory=list)

    def loop(self) -> None:
        """Loop until no stage is left that could run."""
        looked_at = time.time()
        while self._schedule.has_ready or self.running or self._elsewhere or self._pauses:
            self._end_pauses()
            self._start_what_fits()
            timeout_seconds = ELSEWHERE_SECONDS if self._elsewhere else WAIT_SECONDS
            for handle, outcome in self._pool.wait(list(self.running), timeout_seconds):
                self._started.pop(handle)
                self._take(self.running.pop(handle), outcome)
            self._end_overdue()
            if time.time() - looked_at > STALE_SECONDS:  # this process was suspended, or ran a stage itself
                self._pool.cancel([handle for handle, stage in self.running.items() if self._leases.is_lost(stage)])
            looked_at = time.time()
            self._look_elsewhere()
            self._progress.tick()

    def report(self, to_run: Sequence[Stage], reused: Sequence[Stage]) -> Report:
        """The report of the execution."""
        settled = {*self._done, *self._reused, *self._blocked, *self._again, *(stage for stage, _ in self._failed)}
        return Report(
            done=tuple(self._done),
            reused=(*reused, *self._reused),
            failed=tuple(self._failed),
            blocked=tuple(self._blocked),
            remaining=tuple(stage for stage in to_run if stage not in settled),
            losses=self._losses.total(),
            again=tuple(self._again),
        )

    def _start_what_fits(self) -> None:
        full: set[str] = set()
        while (stage := self._schedule.next(full)) is not None:
            if not self._pool.has_room(stage):
                full.add(resource_class(stage))
                continue
            self._schedule.take(stage)
            try:
                if not self._start(stage):
                    full.add(resource_class(stage))
            except ConnectionError:  # Ray's
                raise
            except OSError:  # the store is full, unreachable or read-only; running stages go on
                self._leases.release(stage)
                self._fail(stage, self._store.fail(stage, traceback.format_exc(), ""))

    def _start(self, stage: Stage) -> bool:
        """Start a stage, unless it is stored or runs elsewhere by now; False when there is no room for it."""
        if not self._leases.acquire(stage):
            self._wait_elsewhere(stage, self._leases.holder(stage))
            return True
        self._store.refresh()
        if self._store.find(stage) is not None:  # another sweep was quicker
            self._leases.release(stage)
            self._reuse(stage)
            return True
        if self._store.is_busy(stage):  # a worker of a sweep that lost its lease, or was killed, still works on it
            self._leases.release(stage)
            self._wait_elsewhere(stage, None)
            return True
        self._store.quarantine(stage)
        handle = self._pool.submit(stage)
        if handle is None:
            self._leases.release(stage)
            self._schedule.put_back(stage)
            return False
        self.running[handle] = stage
        self._started[handle] = time.monotonic()
        self._progress.started(stage)
        return True

    def _take(self, stage: Stage, outcome: Outcome) -> None:
        if isinstance(outcome, Lost):
            text = self._lost(stage, outcome)
            if not text:
                return
            outcome = Failed(self._store.fail(stage, text, self._store.partial_log(stage)))
        self._leases.release(stage)
        if isinstance(outcome, Elsewhere):
            self._wait_elsewhere(stage, None)
        elif isinstance(outcome, Spoiled):
            self._give_back(stage, outcome)
        elif isinstance(outcome, Done):
            self._done.append(stage)
            self._progress.done(stage, outcome.record)
            self._schedule.finish(stage)
        else:
            self._fail(stage, outcome.failure)

    def _lost(self, stage: Stage, outcome: Lost) -> str:
        """Arrange for another try and return nothing; or return the failure."""
        if stage in self._overdue:
            return _overdue_text(self._timeouts[resource_class(stage)], resource_class(stage))
        if outcome.cause == "start":  # no worker of it has died
            self._leases.release(stage)
            self._schedule.put_back(stage)
            self._progress.returned(stage, outcome.reason)
            return ""
        self._losses[stage] += 1
        if self._losses[stage] >= MAX_LOSSES:
            return _lost_text(outcome)
        self._leases.release(stage)
        if outcome.cause == "memory":
            seconds = PAUSE_SECONDS * 2 ** (self._losses[stage] - 1)
            self._pauses[stage] = time.monotonic() + seconds
            self._progress.paused(stage, seconds)
        else:
            self._schedule.put_back(stage)
            self._progress.lost(stage, outcome.reason)
        return ""

    def _end_pauses(self) -> None:
        now = time.monotonic()
        for stage, until in list(self._pauses.items()):
            if now >= until:
                del self._pauses[stage]
                self._schedule.put_back(stage)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for handle, stage in self.running.items():
            seconds = self._timeouts.get(resource_class(stage))
            if seconds is not None and now - self._started[handle] > seconds and stage not in self._overdue:
                self._overdue.add(stage)
                self._pool.cancel([handle])  # its outcome is Lost

    def _look_elsewhere(self) -> None:
        for stage, seen in list(self._elsewhere.items()):
            holder = self._leases.holder(stage)
            if holder is not None or self._store.is_busy(stage):
                continue
            del self._elsewhere[stage]
            failure = self._store.failure(stage)
            if self._store.find(stage) is not None:
                self._reuse(stage)
            elif failure is not None and seen is not None and failure["time"] > seen.since:
                self._fail(stage, failure)
            else:  # the other sweep stopped or died
                self._schedule.put_back(stage)

    def _wait_elsewhere(self, stage: Stage, holder: Holder | None) -> None:
        self._elsewhere[stage] = holder
        self._progress.elsewhere(stage, holder)

    def _give_back(self, stage: Stage, outcome: Spoiled) -> None:
        """Leave a stage to the next execution, which makes its inputs again, unless that would not help."""
        # Checked here, so that this process too no longer counts damaged artifacts as stored.
        whole = [parent.name for parent in outcome.inputs if self._store.checked(parent) is not None]
        fresh = [parent.name for parent in outcome.inputs if outcome.damaged and parent in self._done]
        if whole or fresh:
            reason = f"{fresh[0]} was damaged right after it was made; check the disk" if fresh else ""
            if whole:
                reason = f"{whole[0]} is whole here but not where its worker looked; all nodes must see one store"
            text = f"StageError: {stage.name}: its input {reason}.\n"
            self._fail(stage, self._store.fail(stage, text, ""))
            return
        given_back = [stage, *self._schedule.fail(stage)]
        self._again += given_back
        self._progress.given_back(stage, outcome.inputs, len(given_back))

    def _reuse(self, stage: Stage) -> None:
        self._reused.append(stage)
        self._progress.reused(stage)
        self._schedule.finish(stage)

    def _fail(self, stage: Stage, failure: dict[str, Any]) -> None:
        self._failed.append((stage, failure))
        self._progress.failed(stage, failure)
        for descendant in self._schedule.fail(stage):
            self._blocked.append(descendant)
            self._progress.blocked(descendant, stage)


def _lost_text(outcome: Lost) -> str:
    last = " ".join(outcome.reason.split())
    if outcome.cause == "memory":
        return (
            f"WorkerLost: Ray ended its worker {MAX_LOSSES} times because the node's memory was almost full. The stage"
            " itself may need little of it: look for what else uses memory there, or run fewer workers at once (ask"
            f" for more in resources). The last time: {last}\n"
        )
    if outcome.cause == "member":
        return (
            f"WorkerLost: its group of workers fell apart {MAX_LOSSES} times: its hosts cannot reach one another by"
            f" name, or one of them keeps dying. The last time: {last}\n"
        )
    return (
        f"WorkerLost: its worker died {MAX_LOSSES} times, often for want of memory: lower its batch size or ask for"
        f" more in resources. The last time: {last}\n"
    )


def _overdue_text(seconds: float, name: str) -> str:
    return (
        f"StageTimeout: it ran for longer than resources.timeout_minutes.{name}, {seconds / 60:g} minutes, and was"
        " ended. Its log says how far it came; training continues at its last checkpoint when the sweep runs again.\n"
    )
