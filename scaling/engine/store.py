"""The store: a folder or bucket of artifacts, each of which exists whole or not at all.

In: a root (any path etils.epath opens) and, read-only, a folder of shipped artifacts with the same layout. Out: the
artifacts of stages, at `<kind>/<slug>-<digest>`; the slug is a readable name, only the digest is identity. A stage
writes into a work directory; `commit` adds record.json and makes the artifact appear: by rename on a local store. gs://
and s3:// have no rename: there the files are uploaded under a unique name and record.json, written last, points at
them, so two writers cannot mix their files. The work directory is on the node then; copies of its checkpoints are at
`<kind>/.partial-<digest>` of the bucket until the commit (scaling.copies). Broken artifacts are never found. `checked`
is for readers of an artifact: it compares contents with the record. Broken or damaged artifacts are moved to
`<root>/quarantine` and made again.
"""

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from etils import epath

from scaling.copies import file_system
from scaling.engine import failures
from scaling.engine.artifact import (
    PARTIAL,
    RECORD,
    Artifact,
    changed_file,
    describe,
    every_folder,
    file_names,
    folders_of,
    inspect,
    is_local,
    record_text,
    unfinished_folders,
)
from scaling.filelock import FileLock, is_locked
from scaling.stage import CHECKPOINTS, Stage, StageError

logger = logging.getLogger(__name__)

LOG = "log.txt"
WORK_LOCK = ".lock"
WORK_LOCK_TIMEOUT_SECONDS = 10.0  # a worker whose driver was killed dies within seconds


class Store:
    """Artifacts below `root`, and read-only below `shipped`. Cheap to make, so every process has its own."""

    def __init__(self, root: str | os.PathLike[str], shipped: str | os.PathLike[str] | None = None) -> None:
        self.root = _absolute(root)
        self.shipped = None if shipped is None else _absolute(shipped)
        self.is_local = is_local(self.root)
        self._known: dict[str, Artifact] = {}
        self._ignored: set[str] = set()  # folders that do not count, although their record says that they are whole
        self._warned: set[str] = set()
        self._locks: dict[str, FileLock] = {}

    # Reading

    def find(self, stage: Stage) -> epath.Path | None:
        """The folder with the stage's files, or None when no whole artifact of it is here."""
        artifact = self._look_up(stage)
        return artifact.files if artifact else None

    def record(self, stage: Stage) -> dict[str, Any] | None:
        """The artifact's parsed record.json, or None when no whole artifact of the stage is here."""
        artifact = self._look_up(stage)
        return artifact.record if artifact else None

    def numbers(self, stage: Stage) -> dict[str, float] | None:
        """The numbers of the artifact's record, or None when no whole artifact of the stage is here."""
        record = self.record(stage)
        return record["numbers"] if record else None

    def checked(self, stage: Stage) -> Path | None:
        """The artifact as a local folder, its contents compared with the record; None when it is not here.

        The first time in this process every file is read. A damaged artifact is moved to quarantine with a warning; a
        shipped one, which belongs to the repository, is left alone and no longer counts.
        """
        while (artifact := self._look_up(stage)) is not None:
            folder, fault = self._contents(artifact)
            if fault is None:
                return folder
            del self._known[stage.digest]
            self._move_aside(artifact.folder, fault)
        return None

    def fault(self, stage: Stage) -> str | None:
        """The fault of a stage's artifact in the root; None if it is whole or absent. Contents are not read."""
        faults = (inspect(folder, stage.digest)[1] for folder in folders_of(self.root, stage))
        return next(filter(None, faults), None)

    def verify(self, *, set_aside: bool = False) -> Iterator[tuple[epath.Path, str | None]]:
        """Every artifact of the root with its fault, None for a whole one; reads all contents.

        set_aside: also move the damaged ones to quarantine.
        """
        for folder, digest in every_folder(self.root):
            artifact, fault = inspect(folder, digest)
            if artifact is not None:
                _, fault = self._contents(artifact)
            if fault is not None and set_aside:
                self._move_aside(folder, fault)
            yield folder, fault

    def every(self) -> Iterator[tuple[epath.Path, str, dict[str, Any] | None]]:
        """Every artifact of the root: its folder, digest and record, None for one that is not whole."""
        for folder, digest in every_folder(self.root):
            artifact, _ = inspect(folder, digest)
            yield folder, digest, artifact.record if artifact else None

    def look_up_all(self, stages: Iterable[Stage]) -> None:
        """Read the records of many stages, in parallel from an object store; those found are cached."""
        if self.is_local:
            for stage in stages:
                self._look_up(stage)
        else:
            self.refresh()
            with ThreadPoolExecutor(max_workers=16) as threads:
                list(threads.map(self._look_up, stages))

    def refresh(self) -> None:
        """Forget cached listings of an object store, so that later writes of others are seen."""
        if not self.is_local:
            file_system(self.root).invalidate_cache()

    def local(self, path: str | os.PathLike[str]) -> Path:
        """An artifact as a local folder a stage can read; from an object store it is downloaded once per node."""
        if is_local(path):
            return Path(path)
        source = epath.Path(path)
        target = self._scratch() / "artifacts" / _short_digest(path)
        if not target.exists():
            aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
            aside.mkdir(parents=True)
            for name in file_names(source):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                source.joinpath(name).copy(aside / name)
            try:
                aside.rename(target)
            except OSError:  # another worker on this node was faster
                shutil.rmtree(aside)
        return target

    # Writing

    def work_dir(self, stage: Stage) -> Path:
        """The directory for the stage to write in, empty except for a killed predecessor's checkpoints, and locked.

        On a local store it is the sibling `<kind>/.partial-<digest>`; else a scratch directory of this node. Raises
        TimeoutError where another process has it locked.
        """
        directory = self.partial(stage)
        was_whole = (directory / WORK_LOCK).exists()
        self._locks[stage.digest] = FileLock.acquire(directory / WORK_LOCK, WORK_LOCK_TIMEOUT_SECONDS)
        try:
            _empty(directory)
            if not was_whole:  # removed while a stage trained in it and kept on saving
                shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
        except BaseException:
            self._locks.pop(stage.digest).release()
            raise
        return directory

    def partial(self, stage: Stage) -> Path:
        """Where `work_dir` is or will be."""
        parent = Path(self.root) if self.is_local else self._scratch()
        return parent / stage.kind / f"{PARTIAL}{stage.digest}"

    def copies_at(self, stage: Stage) -> epath.Path | None:
        """Where the work of the unfinished stage is copied to, for other nodes; None if they see the work directory."""
        return None if self.is_local else self.root / stage.kind / f"{PARTIAL}{stage.digest}"

    def drop_copies(self, stage: Stage) -> None:
        """Remove them."""
        if (copies := self.copies_at(stage)) is not None:
            self.refresh()
            copies.rmtree(missing_ok=True)

    def is_busy(self, stage: Stage) -> bool:
        """Whether another process has the stage's work directory locked, as far as this node can see."""
        return stage.digest not in self._locks and is_locked(self.partial(stage) / WORK_LOCK)

    def clear_litter(self) -> int:
        """Remove useless work of killed sweeps; returns of how many stages.

        Kept are work directories that are locked, and checkpoints of a stage that is not stored yet.
        """
        removed = 0
        for folder, digest in self.unfinished():
            stored = any(folder.parent.glob(f"*{digest}/{RECORD}"))
            useful = not self.is_local or any((folder / CHECKPOINTS).glob("*"))
            removed += (stored or not useful) and self.discard(folder)
        return removed

    def unfinished(self) -> Iterator[tuple[epath.Path, str]]:
        """The work of unfinished stages in the root: the folder of each, with the digest of the stage."""
        yield from unfinished_folders(self.root)

    def extent(self, folder: epath.Path) -> tuple[int, float]:
        """The bytes of an unfinished stage, and when it was last written to; now, if it runs or has no file."""
        files, num_bytes = file_system(folder), 0
        files.invalidate_cache()
        written_at = [time.time()] if self.is_local and is_locked(Path(folder) / WORK_LOCK) else [0.0]
        try:
            for name, entry in files.find(os.fspath(folder), detail=True).items():
                num_bytes += entry["size"]
                written_at.append(files.modified(name).timestamp())
        except FileNotFoundError:  # removed since it was listed: the stage runs
            written_at.clear()
        return num_bytes, max(written_at, default=0.0) or time.time()

    def discard(self, folder: epath.Path) -> bool:
        """Remove the work of an unfinished stage; returns False if a process has it locked, or another user owns it."""
        if not self.is_local:
            folder.rmtree(missing_ok=True)
            return True
        with suppress(OSError), FileLock.acquire(Path(folder) / WORK_LOCK, 0.0):
            shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def partial_log(self, stage: Stage) -> str:
        """The log of a killed attempt, if it was on this node or on a local store; may be empty."""
        try:
            return (self.partial(stage) / LOG).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def leave(self, stage: Stage) -> None:
        """Unlock the work directory; without a commit, its checkpoints wait there for the next attempt.

        The rest is useless, and takes up space on a full disk.
        """
        lock = self._locks.pop(stage.digest, None)
        if lock is None:
            return
        try:
            if lock.is_at(self.partial(stage) / WORK_LOCK):  # not after a commit: the next may be another's
                _empty(self.partial(stage))
        except OSError as error:  # the next attempt retries it
            logger.warning("%s cannot be emptied: %s.", self.partial(stage), error)
        finally:
            lock.release()

    def commit(self, stage: Stage, work_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
        """Make the work directory the stage's artifact; returns its record, to which the list of files is added.

        When another process has committed the stage meanwhile, its artifact stays and this one is dropped. Every file
        gets the permissions of the umask, not those that a library gave it.
        """
        lock = self._locks.get(stage.digest)
        if lock is not None and not lock.is_at(work_dir / WORK_LOCK):
            raise StageError(
                stage.name,
                f"its work directory {work_dir} was removed while it ran, and files with it: was the store deleted? Run"
                " the same command again.",
            )
        shutil.rmtree(work_dir / CHECKPOINTS, ignore_errors=True)
        names = [name for name in file_names(epath.Path(work_dir)) if name not in (RECORD, WORK_LOCK)]
        record = {**record, "files": {name: describe(work_dir / name) for name in names}}
        self.refresh()
        moved = False
        if self.record(stage) is None:
            self.quarantine(stage)
            if self.is_local:
                moved = self._rename(stage, work_dir, record)
            else:
                self._upload(stage, work_dir, record)
        if not moved:
            shutil.rmtree(work_dir)
        self.leave(stage)
        self.clear_failure(stage)
        committed = self.record(stage)
        if committed is None:
            raise StageError(stage.name, "its artifact was damaged right after it was made; check the disk.")
        self.drop_copies(stage)
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
        for folder in list(folders_of(self.root, stage)):
            _, fault = inspect(folder, stage.digest)
            if fault is not None:
                self._move_aside(folder, fault)

    def distrust(self, stage: Stage) -> None:
        """Count the stage as not stored, in this process only; changes nothing on the disk."""
        for root in (self.root, self.shipped):
            self._ignored.update(os.fspath(folder) for folder in ([] if root is None else folders_of(root, stage)))
        self._known.pop(stage.digest, None)

    def retire(self, stage: Stage) -> bool:
        """Move the stage's artifact to quarantine, so it runs again; returns whether there was one, whole or not."""
        found = self.find(stage) is not None
        self.distrust(stage)
        for folder in list(folders_of(self.root, stage)):
            self._take_out(folder)
            self._ignored.discard(os.fspath(folder))
        return found

    # Failures

    def fail(self, stage: Stage, traceback: str, log: str) -> dict[str, Any]:
        """Keep a failed attempt's traceback and log; returns what `failure` will."""
        return failures.write(self.root / "failures", stage, traceback, log)

    def failure(self, stage: Stage) -> dict[str, Any] | None:
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
                if os.fspath(folder) in self._ignored:
                    continue
                artifact, fault = inspect(folder, stage.digest)
                if artifact is not None:
                    self._known[stage.digest] = artifact
                    return artifact
                # On an object store a folder without a record is an upload, in progress or cut off.
                if os.fspath(folder) not in self._warned and (self.is_local or (folder / RECORD).exists()):
                    self._warned.add(os.fspath(folder))
                    logger.warning("%s %s: it does not count as an artifact.", folder, fault)
        return None

    def _contents(self, artifact: Artifact) -> tuple[Path, str | None]:
        """An artifact's files on this node, and the fault of their contents."""
        folder = self.local(artifact.files)
        fault = changed_file(folder, artifact.record)
        if fault is not None and not is_local(artifact.files):  # the copy on this node may be damaged
            shutil.rmtree(folder)
            folder = self.local(artifact.files)
            fault = changed_file(folder, artifact.record)
        return folder, fault

    def _move_aside(self, folder: epath.Path, fault: str) -> None:
        """Take a folder out of the store: to quarantine, or, on an object store, by deleting its record."""
        self._ignored.add(os.fspath(folder))
        if self.root not in folder.parents:
            logger.warning("%s %s; it belongs to the repository, so it stays, and the stage runs again.", folder, fault)
            return
        try:
            where = self._take_out(folder)
        except OSError as error:
            logger.warning("%s %s, and cannot be taken out of the store: %s.", folder, fault, error)
            return
        self._ignored.discard(os.fspath(folder))  # a new artifact will take its place
        logger.warning("%s %s; %s and the stage runs again.", folder, fault, where)

    def _take_out(self, folder: epath.Path) -> str:
        if not self.is_local:
            (folder / RECORD).unlink(missing_ok=True)
            return "its record is deleted"
        aside = self.root / "quarantine" / folder.parent.name / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(folder, aside)
        except FileNotFoundError:
            return "another process has moved it"
        return f"it is moved to {aside}"

    def _rename(self, stage: Stage, work_dir: Path, record: dict[str, Any]) -> bool:
        """Whether the work directory has become the artifact; another process may have been first."""
        (work_dir / RECORD).write_text(record_text(record))
        _open_to_all(work_dir, stat.S_IMODE((work_dir / RECORD).stat().st_mode))
        target = Path(self.root) / stage.name
        try:
            work_dir.rename(target)
        except OSError:
            if self.record(stage) is None:
                raise
            return False
        (target / WORK_LOCK).unlink(missing_ok=True)
        return True

    def _upload(self, stage: Stage, work_dir: Path, record: dict[str, Any]) -> None:
        folder, attempt = self.root / stage.name, uuid.uuid4().hex[:8]
        for name in record["files"]:
            epath.Path(work_dir / name).copy(folder / attempt / name)
        (folder / RECORD).write_text(record_text({**record, "folder": attempt}))

    def _scratch(self) -> Path:
        """This node's directory for an object store; the same for every process, so that checkpoints are found."""
        return Path(tempfile.gettempdir()) / f"scaling-{os.getuid()}" / _short_digest(self.root)


def _empty(directory: Path) -> None:
    """Remove all but the checkpoints and the lock."""
    for entry in directory.iterdir():
        if entry.name in (CHECKPOINTS, WORK_LOCK):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _open_to_all(folder: Path, mode: int) -> None:
    """Give every file below a folder the mode, and its folders the same with the right to enter."""
    for parent, _, names in os.walk(folder):
        os.chmod(parent, mode | (mode & 0o444) >> 2)
        for path in (os.path.join(parent, name) for name in names):
            if not os.path.islink(path):  # the target of a link is not in the store
                os.chmod(path, mode)


def _short_digest(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(os.fspath(path).encode()).hexdigest()[:16]


def _absolute(path: str | os.PathLike[str]) -> epath.Path:
    return epath.Path(Path(path).expanduser().absolute()) if is_local(path) else epath.Path(path)
