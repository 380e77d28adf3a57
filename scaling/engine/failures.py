"""What is kept of a failed stage: its traceback and log, until it succeeds.

In: the folder `<store>/failures`. Out: `<kind>/<slug>-<digest>/` below it, with traceback.txt, log.txt and, written
last, failure.json.
"""

import json
import os
import socket
import time

from etils import epath

from scaling.engine.artifact import folders_of
from scaling.stage import Stage


def write(root: epath.Path, stage: Stage, traceback: str, log: str) -> dict:
    """Keep a failure; returns what `read` will."""
    folder = root / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "traceback.txt").write_bytes(_encoded(traceback))
    (folder / "log.txt").write_bytes(_encoded(log))
    failure = {
        "stage": stage.name,
        "error": root_error(traceback),
        "host": socket.gethostname(),
        "time": time.time(),
        "traceback": os.fspath(folder / "traceback.txt"),
        "log": os.fspath(folder / "log.txt"),
    }
    (folder / "failure.json").write_text(json.dumps(failure, indent=1))
    return failure


def read(root: epath.Path, stage: Stage) -> dict | None:
    """The stage's failure (stage, error, host, time, and the paths traceback and log), or None."""
    for folder in folders_of(root, stage):
        try:
            return json.loads((folder / "failure.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # it is being written right now
    return None


def clear(root: epath.Path, stage: Stage) -> None:
    """Forget the stage's failure."""
    for folder in list(folders_of(root, stage)):
        folder.rmtree(missing_ok=True)


def _encoded(text: str) -> bytes:
    """As UTF-8 in any locale, and with the names of files that are no text."""
    return text.encode("utf-8", errors="backslashreplace")


def root_error(traceback: str) -> str:
    """The line of a traceback that names the exception raised last: the first after its last indented one."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    first = max((index + 1 for index, line in enumerate(lines) if line.startswith("  ")), default=0)
    return lines[first].strip() if first < len(lines) else "".join(lines[-1:]).strip()
