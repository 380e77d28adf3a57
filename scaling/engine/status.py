"""The state of a plan's stages in a store, from any process: for `--status`, and the reasons in `--plan`.

In: stages and a store. Out: a `Status`; a sentence. Nothing is written. Running stages are known from leases, which
only local stores have.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.engine.artifact import inspect
from scaling.engine.eta import spoken
from scaling.engine.lease import Holder, Leases
from scaling.engine.run import needed
from scaling.engine.store import LOG, Store
from scaling.kinds import kind_of
from scaling.stage import Stage, canonical_json


@dataclass(frozen=True)
class Activity:
    """The output of a running stage."""

    written_at: float  # seconds since the epoch, of any of its files
    last_line: str  # of its log


@dataclass(frozen=True)
class Status:
    """Every needed stage, by its state."""

    done: tuple[Stage, ...]
    running: tuple[tuple[Stage, Holder], ...]  # on a local store; the holder has host, process and start
    activities: Mapping[Stage, "Activity"]  # of those that run and have written something
    failed: tuple[tuple[Stage, dict[str, Any]], ...]  # with the failure as Store.failure gives it
    blocked: tuple[Stage, ...]
    waiting: tuple[Stage, ...]

    def lines(self) -> list[str]:
        """The status as text."""
        now = time.time()
        counts = ("done", "running", "blocked", "failed", "waiting")
        lines = [" / ".join(f"{len(getattr(self, name))} {name}" for name in counts)]
        for stage, holder in self.running:
            where = f"{holder.host}, process {holder.pid}"
            lines.append(f"running   {stage.name}  for {now - holder.since:.0f} s on {where}")
            if activity := self.activities.get(stage):
                lines.append(f"          nothing written for {spoken(now - activity.written_at)}")
                lines += [f"          {activity.last_line}"] if activity.last_line else []
        for stage, failure in self.failed:
            lines.append(f"failed    {stage.name}  {failure['error']} (log: {failure['log']})")
        return lines


def status(stages: Iterable[Stage], store: Store) -> Status:
    """The state of the stages and of what they need."""
    to_run, done = needed(stages, store)
    leases = Leases(Path(store.root) / "leases" if store.is_local else None)
    running, failed, blocked, waiting = [], [], [], []
    stopped: set[Stage] = set()
    for stage in to_run:
        holder = leases.holder(stage)
        failure = store.failure(stage)
        if holder is not None:
            running.append((stage, holder))
        elif failure is not None:
            failed.append((stage, failure))
            stopped.add(stage)
        elif stopped.intersection(stage.inputs.values()):
            blocked.append(stage)
            stopped.add(stage)
        else:
            waiting.append(stage)
    activities = {stage: found for stage, _ in running if (found := _activity(store.partial(stage)))}
    return Status(tuple(done), tuple(running), activities, tuple(failed), tuple(blocked), tuple(waiting))


def why_it_runs(stage: Stage, store: Store, *, compare: bool = True) -> str:
    """Why a stage that is not stored must run: new, broken, failed before, or what differs from one that is stored.

    Without `compare` the last is left out.
    """
    if fault := store.fault(stage):
        return f"its artifact {fault}"
    if failure := store.failure(stage):
        return f"it failed before: {failure['error']}"
    earlier = _of_same_slug(stage, store) if compare else None
    if earlier is None:
        return "new"
    version = kind_of(stage.kind).version
    changes = [f"version {earlier['version']} -> {version}"] if earlier["version"] != version else []
    changes += _changes("config", earlier["config"], json.loads(canonical_json(stage.config)))
    inputs = {name: parent.digest for name, parent in stage.inputs.items()}
    changes += [f"input {name} changed" for name in sorted(inputs) if earlier["inputs"].get(name) != inputs[name]]
    return "; ".join(changes) or "new"


def _activity(folder: Path) -> Activity | None:
    """The activity in a stage's work directory; None before there is one, and once the stage is done."""
    times = []
    for parent, folders, files in os.walk(folder):  # which passes over folders that are removed or renamed meanwhile
        for name in (*folders, *files):
            with suppress(OSError):
                times.append(os.stat(os.path.join(parent, name)).st_mtime)
    if not times:
        return None
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return Activity(max(times), lines[-1] if lines else "")


def _of_same_slug(stage: Stage, store: Store) -> dict[str, Any] | None:
    """The record of the newest other artifact with the stage's kind and slug."""
    prefix = stage.name.rpartition("/")[2].removesuffix(stage.digest)
    folder = store.root / stage.kind
    records = []
    for entry in folder.iterdir() if folder.exists() else ():
        if prefix and entry.name.startswith(prefix) and len(entry.name) == len(prefix) + len(stage.digest):
            artifact, _ = inspect(entry, entry.name[len(prefix) :])
            if artifact is not None:  # a broken one explains nothing
                records.append(artifact.record)
    return max(records, key=lambda record: record["committed_at"], default=None)


def _changes(where: str, old: object, new: object) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        changes = []
        for key in sorted({*old, *new}):
            changes += _changes(f"{where}.{key}", old.get(key, "absent"), new.get(key, "absent"))
        return changes
    return [] if old == new else [f"{where} {old} -> {new}"]
