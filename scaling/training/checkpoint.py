"""Checkpoints of a training state with Orbax: a killed stage continues at the exact update.

In: the directory `checkpoints/` of a stage's working directory. A checkpoint holds the whole `TrainState`; the data
order follows from the update's index. Files that grow while a stage trains are saved with it, so that a resumed stage
leaves what an unbroken one would have left. The list of its files with their digests is written last: a checkpoint that
does not agree with its list is set aside, and training resumes from the one before it, or from the start. Orbax takes
two seconds to import and short stages never save, so it is imported where it is used.

With a store in a bucket a copy of each checkpoint goes there while training goes on, and comes from there on another
node. The processes of a group have no folder in common then: each saves and copies the parts that are on its devices.
"""

import hashlib
import json
import logging
import os
import secrets
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
import numpy as np
from safetensors.numpy import load_file, save_file

from scaling.copies import Copies, current_place
from scaling.files import replace_text, sha256_of
from scaling.model.sharding import true_for_all, value_of_first
from scaling.stage import CHECKPOINTS
from scaling.training.snapshots import SNAPSHOTS
from scaling.training.update import TrainState

logger = logging.getLogger(__name__)

_LIST = "files.json"  # path -> sha256, of every file of a checkpoint
_PARTS = "parts.safetensors"  # of one process of a group
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
        self._copies: Copies | None = None
        self._is_split = False  # between the processes of a group, each with a directory of its own
        if (place := current_place()) is not None:
            index, size = jax.process_index(), jax.process_count()
            self._copies = Copies(place, value_of_first(secrets.randbits(31)), index, size)
            self._is_split = size > 1

    def restore(self, state: TrainState) -> TrainState:
        """The newest whole checkpoint; `state` itself without one."""
        if self._copies is not None:
            self._fetch(self._copies, state)
        if not self.directory.exists():
            return state
        if jax.process_index() == 0 and self._copies is None:
            self._set_damaged_aside()
        value_of_first(True)  # the others wait until that is done
        steps = _steps(self.directory)
        if not steps:
            return state
        for name in self._files:
            if (kept := self.directory / str(steps[-1]) / name).exists():
                shutil.copyfile(kept, self._out / name)
        if self._is_split:
            return _read_parts(state, self.directory / str(steps[-1]) / _PARTS)
        import orbax.checkpoint as ocp

        restored: TrainState = self._open().restore(steps[-1], args=ocp.args.StandardRestore(state))
        return restored

    def maybe_save(self, state: TrainState, update_index: int) -> bool:
        """Save if the last save was long enough ago, and its copy is made; returns whether it did."""
        is_due = time.monotonic() - self._last_saved >= self.every_seconds
        if not value_of_first(is_due and not (self._copies and self._copies.is_sending)):
            return False
        if self._copies is not None:
            self._copies.wait()  # those of other processes may take longer
        if self._is_split:
            _write_parts(state, self.directory / str(update_index) / _PARTS)
        else:
            import orbax.checkpoint as ocp

            manager = self._open()
            manager.save(update_index, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
        if jax.process_index() == 0 or self._is_split:
            self._finish(update_index)
        if self._copies is not None:
            folders = (self.directory / str(update_index), self.directory / SNAPSHOTS)
            names = [f"{folder.name}/{name}" for folder in folders for name in _names(folder)]
            self._copies.send(update_index, self._layout(state), self.directory, names)
        self._last_saved = time.monotonic()
        return True

    def close(self) -> None:
        """Release the threads."""
        if self._copies is not None:
            self._copies.close()
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

    def _fetch(self, copies: Copies, state: TrainState) -> None:
        """Bring the furthest whole copy here, unless what this node has left goes further."""
        here = -1
        if self.directory.exists() and not self._is_split:
            self._set_damaged_aside()
            here = max(_steps(self.directory), default=-1)
        offered = reversed(copies.whole() if jax.process_index() == 0 else [])
        while True:
            step, attempt = map(value_of_first, next(offered, (-1, -1)))
            if step <= here:
                break
            aside = self.directory.with_name("fetched")
            has_come = copies.fetch((step, attempt), self._layout(state), aside)
            if true_for_all(has_come and _is_whole(aside / str(step))):
                shutil.rmtree(self.directory, ignore_errors=True)
                aside.rename(self.directory)
                return
            copies.forget()
            shutil.rmtree(aside, ignore_errors=True)
            logger.warning("The copy of the checkpoint of update %d is damaged, or of other devices.", step)
        if self._is_split:  # what is here may be of another attempt than what others have
            shutil.rmtree(self.directory, ignore_errors=True)

    def _layout(self, state: TrainState) -> str:
        """A name for the parts of the state that are on this process's devices; empty for all of it."""
        if not self._is_split:
            return ""
        return hashlib.sha256(repr(sorted(_own_parts(state))).encode()).hexdigest()[:16]

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


def _own_parts(state: TrainState) -> dict[str, jax.Array]:
    """The parts of the state's arrays that are on this process's devices: number of the array and index -> part."""
    leaves = enumerate(jax.tree.leaves(state))
    return {f"{number} {shard.index}": shard.data for number, leaf in leaves for shard in leaf.addressable_shards}


def _write_parts(state: TrainState, path: Path) -> None:
    # Not Orbax: it wants a folder that all processes of the group see.
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.asarray(part, order="C") for name, part in _own_parts(state).items()}, path)


def _read_parts(state: TrainState, path: Path) -> TrainState:
    """A state of the parts in a file, its arrays placed as those of `state`."""
    parts, (leaves, tree) = load_file(path), jax.tree.flatten(state)

    def joined(number: int, leaf: jax.Array) -> jax.Array:
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: parts[f"{number} {index}"])

    read: TrainState = jax.tree.unflatten(tree, [joined(number, leaf) for number, leaf in enumerate(leaves)])
    return read


def _steps(directory: Path) -> list[int]:
    """The updates with a checkpoint, in order."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _LIST).read_bytes()) == _digests(folder))
    except (OSError, ValueError, RecursionError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    names = [name for name in _names(folder) if not Path(name).name.startswith(_LIST)]
    with ThreadPoolExecutor(max_workers=_NUM_THREADS) as threads:
        return dict(zip(names, threads.map(lambda name: sha256_of(folder / name), names), strict=True))


def _names(folder: Path) -> list[str]:
    """All files below a folder, relative to it."""
    return sorted(os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
