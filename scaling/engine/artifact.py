"""An artifact is a folder whose record.json lists every file with its size and sha256, and that holds all of them.

In: a folder of any path etils.epath opens. Out: an `Artifact`, or the fault of the folder. The record ends
with a sha256 of itself; older records lack it and are trusted. A file that this user may not read is a ConfigError, not
a fault: running the stage again would not help.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from etils import epath

from scaling.config.errors import ConfigError
from scaling.files import known_sha256_of, sha256_of
from scaling.stage import DIGEST_LENGTH, Stage

RECORD = "record.json"
SEAL = "sha256"  # the record's last key
PARTIAL = ".partial-"  # prefix of the name of a folder with the work of an unfinished stage
_SEAL_MARK = f',\n "{SEAL}": '
NOT_KINDS = ("quarantine", "failures", "leases", "compile_cache")  # folders of a store that hold no artifacts


@dataclass(frozen=True)
class Artifact:
    """A whole artifact."""

    folder: epath.Path  # holds record.json
    files: epath.Path  # holds the files: the same folder on a local store, one below it on an object store
    record: dict[str, Any]


def inspect(folder: epath.Path, digest: str) -> tuple[Artifact | None, str | None]:
    """The artifact of a digest in a folder, or None and its fault. Cheap: contents are not read."""
    try:
        text = (folder / RECORD).read_text()
        record = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None, f"has no {RECORD}"
    except PermissionError as error:
        raise _unreadable(folder / RECORD) from error
    except (ValueError, RecursionError):  # also covers bytes that are not text
        return None, f"has a {RECORD} that cannot be parsed"
    if not _lists_files(record):
        return None, f"has a {RECORD} without a list of files"
    if record.get("digest") != digest:
        return None, f"has a {RECORD} of digest {record.get('digest')}, expected {digest}"
    seal = record.pop(SEAL, None)
    if seal is not None and seal != _sha256(text.rpartition(_SEAL_MARK)[0]):
        return None, f"has a {RECORD} that was changed after its commit"
    files = folder / record["folder"] if "folder" in record else folder
    for name, described in record["files"].items():
        size = _size(files / name)
        if size is None:
            return None, f"lacks the file {name}"
        if size != described["bytes"]:
            return None, f"has {size} bytes in {name}, expected {described['bytes']}"
    return Artifact(folder, files, record), None


def record_text(record: Mapping[str, object]) -> str:
    """The text of record.json: the record, ending with the sha256 of the text before it."""
    body = json.dumps(record, indent=1, allow_nan=False).removesuffix("\n}")
    return f'{body}{_SEAL_MARK}"{_sha256(body)}"\n}}'


def changed_file(files: Path, record: Mapping[str, Any]) -> str | None:
    """The fault of a file whose contents differ from those committed, or None. Files are read again once changed."""
    for name, described in record["files"].items():
        try:
            digest = known_sha256_of(files / name)
        except (FileNotFoundError, NotADirectoryError):
            return f"lacks the file {name}"
        except PermissionError as error:
            raise _unreadable(files / name) from error
        if digest != described["sha256"]:
            return f"has other contents in {name} than when it was committed"
    return None


def every_folder(root: epath.Path) -> Iterator[tuple[epath.Path, str]]:
    """Every folder of a store with an artifact's name, whole or not, with the digest in that name."""
    for folder in _folders_of_kinds(root):
        digest = _digest_of(folder.name)
        if re.fullmatch(rf"[0-9a-f]{{{DIGEST_LENGTH}}}", digest) and folder.is_dir():
            yield folder, digest


def unfinished_folders(root: epath.Path) -> Iterator[tuple[epath.Path, str]]:
    """Every folder with the work of an unfinished stage, and the digest of the stage."""
    for folder in _folders_of_kinds(root):
        if folder.name.startswith(PARTIAL):
            yield folder, folder.name.removeprefix(PARTIAL)


def _folders_of_kinds(root: epath.Path) -> Iterator[epath.Path]:
    if not root.exists():
        return
    for kind in sorted(root.iterdir(), key=lambda entry: entry.name):
        if not kind.name.startswith(".") and kind.name not in NOT_KINDS and kind.is_dir():
            yield from sorted(kind.iterdir(), key=lambda entry: entry.name)


def _lists_files(record: object) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("files"), dict):
        return False
    if not isinstance(record.get("folder", ""), str):
        return False
    return all(
        isinstance(described, dict) and isinstance(described.get("bytes"), int) and "sha256" in described
        for described in record["files"].values()
    )


def _unreadable(path: epath.Path | Path) -> ConfigError:
    return ConfigError(
        f"{path} cannot be read by this user. Ask its owner for chmod -R g+rX on the store, or name another store:"
        " --set store=DIR."
    )


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
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def file_names(folder: epath.Path) -> list[str]:
    """Paths of all files below a folder, relative to it, sorted within each folder."""
    names: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            names.extend(f"{entry.name}/{name}" for name in file_names(entry))
        else:
            names.append(entry.name)
    return names


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether a path is on a file system, which has an atomic rename, unlike gs:// and s3://."""
    return "://" not in os.fspath(path)


def _names(folder: epath.Path, digest: str) -> list[str]:
    """The folder's entries `<slug>-<digest>` and `<digest>`. A local listing is cached while it cannot be outdated."""
    if is_local(folder):
        changed_at = os.stat(folder).st_mtime_ns
        # The modification time misses a change within the clock's resolution, so a recent listing is not cached.
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
        if not is_local(path):
            return int(path.stat().length)
        size = os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
        return None
    except PermissionError as error:
        raise _unreadable(path) from error
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _unreadable(path)
    return size


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
