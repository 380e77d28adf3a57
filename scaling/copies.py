"""Copies of a stage's unfinished work in the bucket that its store is in, so that another node can go on with it.

In: a folder of the bucket, from the worker around a stage; none where the store is on a file system, since there other
nodes see the work directory itself. Out: `Copies` of a local folder, and `LineCopies` of a file that only grows. A
bucket has no rename: the files of a copy are uploaded under names of their own, and the list of them, written last,
makes the copy count. A copy that lacks a file does not count either. So nodes that run the same stage at once may
remove each other's copies, but what is read is whole and of one attempt.
"""

import json
import logging
import os
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from etils import epath

logger = logging.getLogger(__name__)

_LIST = re.compile(r"(\d+)-([0-9a-f]+)-(\d+)-(\d+)\.json")  # progress, attempt, index and size of the group
_place: ContextVar[epath.Path | None] = ContextVar("place", default=None)

Key = tuple[int, int]  # progress and attempt


def current_place() -> epath.Path | None:
    """The folder of the bucket in force; None where the work directory is enough."""
    return _place.get()


@contextmanager
def copying_to(place: epath.Path | None) -> Iterator[None]:
    """Put a folder in force inside this context."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


class Copies:
    """The copies of a folder, of this attempt and of others; the parts of all processes of a group make up a copy."""

    def __init__(self, place: epath.Path, attempt: int, index: int = 0, size: int = 1) -> None:
        """attempt: tells this run of the stage from others; the same in all processes of its group of `size`."""
        self._files, self._root = file_system(place), os.fspath(place)
        self._attempt, self._index, self._size = attempt, index, size
        self._listed: dict[str, tuple[str, int]] = {}  # file -> object and bytes, in the copy last sent or fetched
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._sent: Future[None] | None = None

    def whole(self) -> list[Key]:
        """The copies of groups of this size of which no file is missing; the furthest is last."""
        sizes = self._sizes()
        return sorted(key for key, lists in self._lists(sizes).items() if self._is_whole(lists, sizes))

    def fetch(self, key: Key, layout: str, folder: Path) -> bool:
        """Bring this process's part of a copy to a new folder; its files are not sent again.

        Returns False if it was sent with another layout, or if its files are being removed by another attempt.
        """
        progress, attempt = key
        with suppress(FileNotFoundError, ValueError):
            found = self._read(f"{progress}-{attempt:08x}-{self._index}-{self._size}.json")
            if found.get("layout") != layout:
                return False
            listed = {name: (at, length) for name, (at, length) in found["files"].items()}
            remote = [f"{self._root}/{at}" for at, _ in listed.values()]
            self._files.get(remote, [os.fspath(folder / name) for name in listed])
            self._listed = listed
            return True
        return False

    def forget(self) -> None:
        """Do not rely on what was fetched."""
        self._listed = {}

    def send(self, progress: int, layout: str, folder: Path, names: Sequence[str]) -> None:
        """Start to copy files of the folder. They must stay as they are until `wait`; those sent before are skipped.

        When the copy is whole, those of less progress are removed.
        """
        self._sent = self._thread.submit(self._send, progress, layout, folder, names)

    @property
    def is_sending(self) -> bool:
        """Whether a copy is under way."""
        return self._sent is not None and not self._sent.done()

    def wait(self) -> None:
        """Wait for the copy; one that has failed is a warning, since the stage itself can go on."""
        if self._sent is not None and (error := self._sent.exception()) is not None:
            logger.warning("The copy of a checkpoint to %s failed: %s. The next one is tried.", self._root, error)
        self._sent = None

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        self._thread.shutdown()

    def _send(self, progress: int, layout: str, folder: Path, names: Sequence[str]) -> None:
        there = self._sizes()  # another attempt may have removed some
        new = [name for name in names if name not in self._listed or self._listed[name][0] not in there]
        own = {name: f"{self._attempt:08x}/{self._index}/{name}" for name in new}
        self._files.put([os.fspath(folder / name) for name in new], [f"{self._root}/{own[name]}" for name in new])
        sent = {name: (own[name], (folder / name).stat().st_size) for name in new}
        listed = {name: sent.get(name) or self._listed[name] for name in names}
        path = f"{self._root}/{progress}-{self._attempt:08x}-{self._index}-{self._size}.json"
        self._files.pipe_file(path, json.dumps({"layout": layout, "files": listed}).encode())
        self._listed = listed
        self._remove_before(progress)

    def _remove_before(self, progress: int) -> None:
        """Remove copies of less progress once the own copy is whole: the last process of a group to get here sees that.

        What no list names stays until the stage is committed: it may be a copy that another process is at.
        """
        sizes = self._sizes()
        found = self._lists(sizes)
        if not self._is_whole(found.get((progress, self._attempt), {}), sizes):
            return
        kept, old = set[str](), set[str]()
        for (reached, attempt), lists in found.items():
            for (index, size), content in lists.items():
                name = f"{reached}-{attempt:08x}-{index}-{size}.json"
                (kept if reached >= progress else old).update((name, *(at for at, _ in content["files"].values())))
        gone = [f"{self._root}/{name}" for name in sorted(old - kept) if name in sizes]
        with suppress(FileNotFoundError):  # another attempt was faster
            self._files.rm(gone)

    def _sizes(self) -> dict[str, int]:
        """The bytes of all objects, by their names below the place."""
        self._files.invalidate_cache()
        start = len(self._files._strip_protocol(self._root)) + 1
        return {name[start:]: entry["size"] for name, entry in self._files.find(self._root, detail=True).items()}

    def _lists(self, sizes: Mapping[str, int]) -> dict[Key, dict[tuple[int, int], Any]]:
        """The lists of files of every copy, whole or not, by index and size of the group."""
        found = defaultdict[Key, dict[tuple[int, int], Any]](dict)
        for match in filter(None, map(_LIST.fullmatch, sizes)):
            with suppress(FileNotFoundError, ValueError):  # removed since, or damaged
                key = int(match[1]), int(match[2], 16)
                found[key][int(match[3]), int(match[4])] = self._read(match[0])
        return found

    def _is_whole(self, lists: Mapping[tuple[int, int], Any], sizes: Mapping[str, int]) -> bool:
        parts = [lists.get((index, self._size)) for index in range(self._size)]
        return all(part and all(sizes.get(at) == length for at, length in part["files"].values()) for part in parts)

    def _read(self, name: str) -> Any:
        return json.loads(self._files.cat_file(f"{self._root}/{name}"))


class LineCopies:
    """Copies of the lines of a file; lines that are there twice must not matter to its reader."""

    def __init__(self, place: epath.Path) -> None:
        self._files, self._root = file_system(place), os.fspath(place)

    def fetch(self) -> bytes:
        """All lines of all attempts."""
        self._files.invalidate_cache()
        names = self._files.find(self._root)
        return b"".join(self._files.cat(names).values()) if names else b""

    def send(self, lines: bytes) -> None:
        """Add lines."""
        self._files.pipe_file(f"{self._root}/{uuid.uuid4().hex}.jsonl", lines)


def file_system(place: epath.Path) -> Any:
    """The place's fsspec file system, which copies many files at once."""
    from etils.epath import backend

    return backend.fsspec_backend.fs(place)
