"""Checkpoints of a training state with Orbax: a killed stage continues at the exact update.

In: the directory `checkpoints/` of a stage's working directory. A checkpoint holds the whole `TrainState`; the data
order follows from the update's index. Files that grow while a stage trains are saved with it, so that a resumed stage
leaves what an unbroken one would have left. The list of its files with their digests is written last: a checkpoint that
does not agree with its list is set aside, and training resumes from the one before it, or from the start. Orbax takes
two seconds to import and short stages never save, so it is imported where it is used.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any

import jax

from scaling.files import replace_text, sha256_of
from scaling.model.sharding import value_of_first
from scaling.stage import CHECKPOINTS
from scaling.training.update import TrainState

logger = logging.getLogger(__name__)

_LIST = "files.json"  # path -> sha256, of every file of a checkpoint
_ASIDE = "damaged"
_NUM_THREADS = 8  # sha256 of one file takes a second for 1.5 GB


class Checkpoints:
    """Saves the training state every `every_seconds`, keeps the newest, restores it."""

    def __init__(self, out: Path, every_seconds: float = 60.0, files: Sequence[str] = ()) -> None:
        """files: names of files in `out` that are saved with each checkpoint, and restored with it."""
        self.directory = Path(os.path.realpath(out / CHECKPOINTS))  # members of a group have a link to one directory
        self.every_seconds = every_seconds
        self._out = out
        self._files = tuple(files)
        self._last_saved = time.monotonic()
        self._manager: Any = None  # Orbax's, from the first use on

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole checkpoint; `state` itself without one."""
        if not self.directory.exists():
            return state
        if jax.process_index() == 0:
            self._set_damaged_aside()
        value_of_first(True)  # the others wait until that is done
        steps = _steps(self.directory)
        if not steps:
            return state
        import orbax.checkpoint as ocp

        for name in self._files:
            if (kept := self.directory / str(steps[-1]) / name).exists():
                shutil.copyfile(kept, self._out / name)
        restored: TrainState = self._open().restore(steps[-1], args=ocp.args.StandardRestore(state))
        return restored

    def maybe_save(self, state: TrainState, update_index: int) -> bool:
        """Save if the last save was long enough ago; returns whether it did."""
        if not value_of_first(time.monotonic() - self._last_saved >= self.every_seconds):
            return False
        import orbax.checkpoint as ocp

        manager = self._open()
        manager.save(update_index, args=ocp.args.StandardSave(state))
        manager.wait_until_finished()
        if jax.process_index() == 0:
            self._finish(update_index)
        self._last_saved = time.monotonic()
        return True

    def close(self) -> None:
        """Release Orbax's threads."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> Any:
        import orbax.checkpoint as ocp

        if self._manager is None:
            for name in ("absl", "asyncio"):
                logging.getLogger(name).addFilter(_without_traceback)
            if getattr(sys.unraisablehook, "func", None) is not _show_unless_late:
                sys.unraisablehook = partial(_show_unless_late, sys.unraisablehook)
            self._manager = ocp.CheckpointManager(
                self.directory, options=ocp.CheckpointManagerOptions(max_to_keep=None, create=True)
            )
        return self._manager

    def _finish(self, step: int) -> None:
        """Complete the checkpoint that Orbax has written; only then remove older ones."""
        folder = self.directory / str(step)
        for name in self._files:
            if (self._out / name).exists():
                shutil.copyfile(self._out / name, folder / name)
        replace_text(folder / _LIST, json.dumps(_digests(folder)))
        for older in _steps(self.directory):
            if older < step:
                shutil.rmtree(self.directory / str(older))

    def _set_damaged_aside(self) -> None:
        """Move damaged checkpoints aside, the newest first, until one is whole."""
        for step in reversed(_steps(self.directory)):
            folder = self.directory / str(step)
            if _is_whole(folder):
                return
            shutil.rmtree(self.directory / _ASIDE, ignore_errors=True)  # one is enough to inspect
            folder.rename(self.directory / _ASIDE)
            logger.warning(
                "The checkpoint %s is damaged or was cut off; it is moved to %s. Training goes on from the one before"
                " it, or from the start.",
                folder,
                self.directory / _ASIDE,
            )


def _without_traceback(entry: logging.LogRecord) -> bool:
    """Drop tracebacks that Orbax, or the event loop below it, logs: the error is raised as well, and logged then."""
    if entry.exc_info and any("orbax" in Path(frame.filename).parts for frame in extract_tb(entry.exc_info[2])):
        entry.exc_info = None
    return True


def _show_unless_late(show: Callable[["sys.UnraisableHookArgs"], object], error: "sys.UnraisableHookArgs") -> None:
    """Python's hook for errors that cannot be raised, silent on a write that ends after another has failed the save.

    Orbax has closed its event loop by then, and the traceback of that would be printed beside the stage's own.
    """
    frames = extract_tb(error.exc_traceback)
    is_late = isinstance(error.exc_value, RuntimeError) and any(one.name == "call_soon_threadsafe" for one in frames)
    if not (is_late and error.object is None):
        show(error)


def _steps(directory: Path) -> list[int]:
    """The updates with a checkpoint, in order."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _LIST).read_bytes()) == _digests(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_LIST)]
    names = sorted(os.fspath(path.relative_to(folder)) for path in files)
    with ThreadPoolExecutor(max_workers=_NUM_THREADS) as threads:
        return dict(zip(names, threads.map(lambda name: sha256_of(folder / name), names), strict=True))
