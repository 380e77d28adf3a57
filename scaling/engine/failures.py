"""The traceback and log of a failed stage, kept until it succeeds.

In: the folder `<store>/failures`. Out: `<kind>/<slug>-<digest>/` below it, with traceback.txt, log.txt and, written
last, failure.json. If the store cannot be written to, the failure itself carries its traceback and log.
"""

import errno
import json
import os
import socket
import time
from typing import Any

from etils import epath

from scaling.engine.artifact import folders_of, is_local
from scaling.stage import Stage

# Errors of a disk that cannot be written -> the cure. Libraries wrap them in their own types.
_CURES = {
    os.strerror(errno.ENOSPC): "Free space there, or name another store: --set store=DIR.",
    os.strerror(errno.EDQUOT): "Free space there, or name another store: --set store=DIR.",
    os.strerror(errno.EROFS): "Make it writable, or name another store: --set store=DIR.",
}
_TEXTS = ("stage", "error", "host", "traceback", "log")


def write(root: epath.Path, stage: Stage, traceback: str, log: str) -> dict[str, Any]:
    """Keep a failure; returns what `read` will, or the failure with both texts if they cannot be written."""
    folder = root / stage.name
    failure = {
        "stage": stage.name,
        "error": explained(root_error(traceback), root.parent),
        "host": socket.gethostname(),
        "time": time.time(),
        "traceback": os.fspath(folder / "traceback.txt"),
        "log": os.fspath(folder / "log.txt"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "traceback.txt").write_bytes(_encoded(traceback))
        (folder / "log.txt").write_bytes(_encoded(log))
        (folder / "failure.json").write_text(json.dumps(failure, indent=1))
    except OSError as error:
        nowhere = f"not written: {os.strerror(error.errno or errno.EIO)}"
        return failure | {"traceback": nowhere, "log": nowhere, "unwritten": f"{traceback.rstrip()}\n{log}"}
    return failure


def read(root: epath.Path, stage: Stage) -> dict[str, Any] | None:
    """The stage's failure (stage, error, host, time, and the paths traceback and log), or None."""
    for folder in folders_of(root, stage):
        try:
            failure: dict[str, Any] = json.loads((folder / "failure.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            continue  # it is being written, or was torn
        if _is_failure(failure):
            return failure
    return None


def clear(root: epath.Path, stage: Stage) -> None:
    """Forget the stage's failure."""
    for folder in list(folders_of(root, stage)):
        folder.rmtree(missing_ok=True)


def _encoded(text: str) -> bytes:
    """Write as UTF-8 in any locale; file names that are not text are kept."""
    return text.encode("utf-8", errors="backslashreplace")


def root_error(traceback: str) -> str:
    """The line of a traceback that names the exception raised last: the first after its last indented one."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    first = max((index + 1 for index, line in enumerate(lines) if line.startswith("  ")), default=0)
    return lines[first].strip() if first < len(lines) else "".join(lines[-1:]).strip()


def explained(error: str, root: epath.Path) -> str:
    """An error in one line, with the cure if the store itself is at fault."""
    if os.strerror(errno.ENOENT) in error and is_local(root) and not root.exists():
        return f"{error.rstrip('.')}. The store {root} was deleted during the run: run the same command again."
    for words, cure in _CURES.items():
        if words in error:
            return f"{error.rstrip('.')}. The store is {root}. {cure}"
    return error


def _is_failure(read: object) -> bool:
    """Whether it has the form that `write` gives; other versions are ignored."""
    if not isinstance(read, dict) or not all(isinstance(read.get(name), str) for name in _TEXTS):
        return False
    return type(read.get("time")) in (int, float)
