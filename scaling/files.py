"""Files by their content, and files that are replaced whole.

In: a path. Out: the sha256 of what it holds; or the file with a new text, which no reader sees half written.
"""

import hashlib
import os
import uuid
from functools import lru_cache
from pathlib import Path

from etils import epath


def sha256_of(path: Path | epath.Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256_of(path: Path) -> str:
    """The same, read once in a process unless the file changes."""
    state = path.stat()
    return _known(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=2**16)
def _known(path: Path, *signature: int) -> str:
    return sha256_of(path)


def replace_text(path: Path, text: str) -> None:
    """Write a text in place of the file, if there is one, in one step."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
