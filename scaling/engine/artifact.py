"""What makes a folder an artifact: a record.json that lists every file with its size and sha256, all of it there.

In: a folder of any path etils.epath opens. Out: an `Artifact`, or the fault that keeps the folder from being one.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from etils import epath

from scaling.stage import Stage

RECORD = "record.json"


@dataclass(frozen=True)
class Artifact:
    """A whole artifact."""

    folder: epath.Path  # holds record.json
    files: epath.Path  # holds the files: the same folder on a local store, one below it on an object store
    record: dict


def inspect(folder: epath.Path, stage: Stage) -> tuple[Artifact | None, str | None]:
    """The stage's artifact in a folder, or None and what is wrong with the folder. Cheap: contents are not read."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None, f"has no {RECORD}"
    except ValueError:  # covers bytes that are no text
        return None, f"has a {RECORD} that cannot be parsed"
    if not _lists_files(record):
        return None, f"has a {RECORD} without a list of files"
    if record.get("digest") != stage.digest:
        return None, f"has a {RECORD} of digest {record.get('digest')}, expected {stage.digest}"
    files = folder / record["folder"] if "folder" in record else folder
    for name, described in record["files"].items():
        size = _size(files / name)
        if size is None:
            return None, f"lacks the file {name}"
        if size != described["bytes"]:
            return None, f"has {size} bytes in {name}, expected {described['bytes']}"
    return Artifact(folder, files, record), None


def _lists_files(record: object) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        return False
    return all(isinstance(described, dict) and "bytes" in described for described in record["files"].values())


def changed_file(artifact: Artifact) -> str | None:
    """The fault of a file whose contents are not those committed, or None; reads every file."""
    for name, described in artifact.record["files"].items():
        if hashlib.sha256((artifact.files / name).read_bytes()).hexdigest() != described["sha256"]:
            return f"has other contents in {name} than when it was committed"
    return None


def folders_of(root: epath.Path, stage: Stage) -> Iterator[epath.Path]:
    """Folders of the stage's digest below `root`: the one of its own slug first, then those of other slugs."""
    exact = root / stage.name
    if exact.exists():
        yield exact
    kind = root / stage.kind
    try:
        names = _names(kind, stage.digest)
    except FileNotFoundError:
        return
    for name in names:
        if name != exact.name:
            yield kind / name


def describe(file: Path) -> dict[str, object]:
    """A file's entry in the record."""
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def file_names(folder: epath.Path) -> list[str]:
    """Paths of all files below a folder, relative to it, sorted within each folder."""
    names = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            names.extend(f"{entry.name}/{name}" for name in file_names(entry))
        else:
            names.append(entry.name)
    return names


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path is on a file system, which has an atomic rename; gs:// and s3:// have none."""
    return "://" not in os.fspath(path)


def _names(folder: epath.Path, digest: str) -> list[str]:
    """The folder's entries `<slug>-<digest>` and `<digest>`. A local listing is kept while it must be true."""
    if is_local(folder):
        changed_at = os.stat(folder).st_mtime_ns
        # A later change within the clock's resolution would not show in the time: a recent listing is not kept.
        if time.time_ns() - changed_at > 2_000_000_000:
            return _settled_listing(os.fspath(folder), changed_at).get(digest, [])
        names = os.listdir(folder)
    else:
        names = [entry.name for entry in folder.iterdir()]
    return sorted(name for name in names if name.endswith(digest) and _digest_of(name) == digest)


@lru_cache(maxsize=64)
def _settled_listing(folder: str, changed_at: int) -> dict[str, list[str]]:
    by_digest: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        by_digest.setdefault(_digest_of(name), []).append(name)
    return by_digest


def _digest_of(name: str) -> str:
    return "" if name.startswith(".") else name.rpartition("-")[2]


def _size(path: epath.Path) -> int | None:
    try:
        return os.stat(path).st_size if is_local(path) else path.stat().length
    except (FileNotFoundError, NotADirectoryError):
        return None
