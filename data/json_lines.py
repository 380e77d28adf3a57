"""Files of JSON lines that are only ever appended to, and stay readable when a write is cut off.

In: a descriptor opened for appending, and a row. Out: one more line of the file, or none. If a full disk takes
only part of a line, that part is cut off again: the next line would be joined to it.
"""

import json
import os
from collections.abc import Mapping


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
