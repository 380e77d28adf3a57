"""Files of JSON lines that are only ever appended to, and stay readable when a write is cut off.

In: a path or a descriptor opened for appending, and a row. Out: one more line of the file, or none; and the lines that
are whole. If a full disk takes only part of a line, that part is cut off again: the next line would be joined to it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def open_lines(path: Path) -> int:
    """A descriptor for appending, of a file that is made if there is none."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def append(descriptor: int, row: Mapping[str, object]) -> None:
    """Write a row as one line, whole or not at all; raises OSError if the disk does not take it."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    line = memoryview(text.encode("utf-8", "surrogatepass"))  # a server may send half of a pair; json.loads takes it
    start = os.fstat(descriptor).st_size
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The number and bytes of each line; a last one that was cut off, or is being written, is skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def mend(path: Path) -> int:
    """Complete a last line that lacks only its newline, drop one that was cut off; returns the bytes dropped."""
    written = path.read_bytes()
    start = written.rfind(b"\n") + 1
    last = written[start:]
    if not last:
        return 0
    with path.open("rb+") as file:
        try:
            json.loads(last)
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        except (ValueError, RecursionError):
            file.truncate(start)
        file.flush()
        os.fsync(file.fileno())
        return max(0, len(written) - file.seek(0, os.SEEK_END))
