"""The store: a folder or bucket of artifacts, each of which exists whole or not at all.

In: a root (any path etils.epath opens) and, read-only, a folder of shipped artifacts with the same layout. Out: the
artifacts of stages, at `<kind>/<slug>-<digest>`; the slug is for readers, only the digest is identity. A stage writes
into a work directory; `commit` adds record.json and makes the artifact appear: by rename on a local store; on gs://
and s3://, which have none, the files go up under a name of their own and record.json, written last, points at them,
so that two writers cannot mix their files. Broken artifacts are never found; `quarantine` moves them aside.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from scaling.engine import failures
from scaling.engine.artifact import (
    RECORD,
    Artifact,
    changed_file,
    describe,
    file_names,
    folders_of,
    inspect,
    is_local,
)
from scaling.engine.filelock import FileLock
from scaling.stage import CHECKPOINTS, Stage

logger = logging.getLogger(__name__)

LOG = "log.txt"
WORK_LOCK = ".lock"
WORK_LOCK_TIMEOUT_SECONDS = 60.0  # a worker whose driver was killed dies within seconds


class Store:
    """Artifacts below `root`, and read-only below `shipped`. Cheap to make, so every process has its own."""

    def __init__(self, root: str | os.PathLike, shipped: str | os.PathLike | None = None) -> None:
        self.root = _absolute(root)
        self.shipped = None if shipped is None else _absolute(shipped)
        self.is_local = is_local(self.root)
        self._known: dict[str, Artifact] = {}
        self._warned: set[str] = set()
        self._locks: dict[str, FileLock] = {}

    # Reading

    def find(self, stage: Stage) -> epath.Path | None:
        """The folder with the stage's files, or None when no whole artifact of it is here."""
        artifact = self._look_up(stage)
        return artifact.files if artifact else None

    def record(self, stage: Stage) -> dict | None:
        """The artifact's parsed record.json, or None when no whole artifact of the stage is here."""
        artifact = self._look_up(stage)
        return artifact.record if artifact else None

    def numbers(self, stage: Stage) -> dict[str, float] | None:
        """The numbers of the artifact's record, or None when no whole artifact of the stage is here."""
        record = self.record(stage)
        return record["numbers"] if record else None

    def fault(self, stage: Stage, *, check_contents: bool = False) -> str | None:
        """What is wrong with what the root holds of a stage; None when it is whole or absent.

        check_contents: also compare every file's sha256, which reads the whole artifact.
        """
        for folder in folders_of(self.root, stage):
            artifact, fault = inspect(folder, stage)
            if artifact and check_contents:
                fault = changed_file(artifact)
            if fault:
                return fault
        return None

    def look_up_all(self, stages: Iterable[Stage]) -> None:
        """Read the records of many stages, in parallel from an object store; those found cost nothing afterwards."""
        if self.is_local:
            for stage in stages:
                self._look_up(stage)
        else:
            self.refresh()
            with ThreadPoolExecutor(max_workers=16) as threads:
                list(threads.map(self._look_up, stages))

    def refresh(self) -> None:
        """Forget cached listings of an object store, so that what others wrote since is seen."""
        if not self.is_local:
            from etils.epath import backend

            backend.fsspec_backend.fs(self.root).invalidate_cache()

    def local(self, path: str | os.PathLike) -> Path:
        """An artifact as a local folder a stage can read; from an object store it is downloaded once per node."""
        if is_local(path):
            return Path(path)
        source = epath.Path(path)
        target = self._scratch() / "artifacts" / hashlib.sha256(os.fspath(path).encode()).hexdigest()[:16]
        if not target.exists():
            aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
            aside.mkdir(parents=True)
            for name in file_names(source):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                source.joinpath(name).copy(aside / name)
            try:
                aside.rename(target)
            except OSError:  # another worker of this node was first
                shutil.rmtree(aside)
        return target

    # Writing

    def work_dir(self, stage: Stage) -> Path:
        """The directory for the stage to write in, empty but for a killed predecessor's checkpoints, and locked.

        On a local store it is the sibling `<kind>/.partial-<digest>`; else a scratch directory of this node.
        """
        directory = self.partial(stage)
        self._locks[stage.digest] = FileLock.acquire(directory / WORK_LOCK, WORK_LOCK_TIMEOUT_SECONDS)
        for entry in directory.iterdir():
            if entry.name in (CHECKPOINTS, WORK_LOCK):
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        return directory

    def partial(self, stage: Stage) -> Path:
        """Where `work_dir` is or will be."""
        parent = Path(self.root) if self.is_local else self._scratch()
        return parent / stage.kind / f".partial-{stage.digest}"

    def partial_log(self, stage: Stage) -> str:
        """What a killed attempt had logged, as far as it was on this node or on a local store; may be empty."""
        log = self.partial(stage) / LOG
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def leave(self, stage: Stage) -> None:
        """Unlock the work directory; without a commit, its checkpoints wait there for the next attempt."""
        lock = self._locks.pop(stage.digest, None)
        if lock:
            lock.release()

    def commit(self, stage: Stage, work_dir: Path, record: dict) -> dict:
        """Make the work directory the stage's artifact; returns its record, to which the list of files is added.

        When another process has committed the stage meanwhile, its artifact stays and this one is dropped.
        """
        shutil.rmtree(work_dir / CHECKPOINTS, ignore_errors=True)
        names = [name for name in file_names(epath.Path(work_dir)) if name not in (RECORD, WORK_LOCK)]
        record = {**record, "files": {name: describe(work_dir / name) for name in names}}
        self.refresh()
        if self.record(stage) is None:
            self.quarantine(stage)
            publish = self._rename if self.is_local else self._upload
            publish(stage, work_dir, record)
        if work_dir.exists():
            shutil.rmtree(work_dir)
        self.leave(stage)
        self.clear_failure(stage)
        committed = self.record(stage)
        assert committed is not None
        return committed

    def adopt(self, stage: Stage) -> None:
        """Copy a shipped artifact into the root, for workers on nodes that do not see the shipped folder."""
        artifact = self._look_up(stage)
        if artifact is None or self.shipped is None or self.shipped not in artifact.folder.parents:
            return
        work_dir = self.work_dir(stage)
        try:
            shutil.copytree(artifact.files, work_dir, dirs_exist_ok=True)
            Store(self.root).commit(stage, work_dir, artifact.record)
        finally:
            self.leave(stage)
        self._known.pop(stage.digest)

    def quarantine(self, stage: Stage) -> None:
        """Move broken artifacts of a stage to `<root>/quarantine`; on an object store their record is deleted."""
        for folder in folders_of(self.root, stage):
            artifact, fault = inspect(folder, stage)
            if artifact is not None:
                continue
            if not self.is_local:
                (folder / RECORD).unlink(missing_ok=True)
                continue
            aside = self.root / "quarantine" / stage.kind / f"{folder.name}-{uuid.uuid4().hex[:8]}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(aside)
            logger.warning("%s %s; it is moved to %s and the stage runs again.", folder, fault, aside)

    # Failures

    def fail(self, stage: Stage, traceback: str, log: str) -> dict:
        """Keep a failed attempt's traceback and log; returns what `failure` will."""
        return failures.write(self.root / "failures", stage, traceback, log)

    def failure(self, stage: Stage) -> dict | None:
        """The stage's last failure (stage, error, host, time, and the paths traceback and log), or None."""
        return failures.read(self.root / "failures", stage)

    def clear_failure(self, stage: Stage) -> None:
        """Forget the stage's failure, because it has succeeded."""
        failures.clear(self.root / "failures", stage)

    # Private

    def _look_up(self, stage: Stage) -> Artifact | None:
        known = self._known.get(stage.digest)
        if known is not None and (not self.is_local or os.path.exists(known.folder / RECORD)):
            return known
        for root in (self.root, self.shipped):
            for folder in () if root is None else folders_of(root, stage):
                artifact, fault = inspect(folder, stage)
                if artifact is not None:
                    self._known[stage.digest] = artifact
                    return artifact
                # On an object store a folder without a record is an upload that goes on or was cut off.
                if os.fspath(folder) not in self._warned and (self.is_local or (folder / RECORD).exists()):
                    self._warned.add(os.fspath(folder))
                    logger.warning("%s %s: it does not count as an artifact.", folder, fault)
        return None

    def _rename(self, stage: Stage, work_dir: Path, record: dict) -> None:
        _write_record(epath.Path(work_dir), record)
        target = Path(self.root) / stage.name
        try:
            work_dir.rename(target)
        except OSError:
            if self.record(stage) is None:
                raise
            return  # another process was first
        (target / WORK_LOCK).unlink(missing_ok=True)

    def _upload(self, stage: Stage, work_dir: Path, record: dict) -> None:
        folder, attempt = self.root / stage.name, uuid.uuid4().hex[:8]
        for name in record["files"]:
            epath.Path(work_dir / name).copy(folder / attempt / name)
        _write_record(folder, {**record, "folder": attempt})

    def _scratch(self) -> Path:
        """This node's directory for an object store; the same for every process, so that checkpoints are found."""
        name = hashlib.sha256(os.fspath(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"scaling-{os.getuid()}" / name


def _write_record(folder: epath.Path, record: dict) -> None:
    (folder / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False))


def _absolute(path: str | os.PathLike) -> epath.Path:
    return epath.Path(Path(path).expanduser().absolute()) if is_local(path) else epath.Path(path)
