"""A server's answers, kept row by row: a killed stage repeats only requests without an answer.

In: the working directory of a stage, whose `checkpoints/` outlives a killed or failed attempt. Out: answers by the
digest of their request, and the servers that gave them. One JSON object a line; a line that a kill or a full disk cut
short, or that is not an entry, is dropped, and its request is made again. With a store in a bucket new lines are also
copied there every minute and at the end, and come from there on another node.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.json_lines import append, mend, open_lines, whole_lines
from scaling.copies import LineCopies, current_place
from scaling.stage import CHECKPOINTS

logger = logging.getLogger(__name__)

FILE = "answers.jsonl"
COPY_SECONDS = 60.0


class Journal:
    """The answers and servers so far, and the file that they are appended to."""

    def __init__(self, out: Path) -> None:
        self.path = out / CHECKPOINTS / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Mapping[str, Any]] = {}
        self.servers: list[Mapping[str, Any]] = []  # the description of each
        place = current_place()
        self._copies = None if place is None else LineCopies(place / FILE)
        self._copied_at = time.monotonic()
        if self._copies is not None and not self.path.exists():
            self.path.write_bytes(self._copies.fetch())
        if self.path.exists():
            self._read()
        self._descriptor = open_lines(self.path)
        self._copied_bytes = self.path.stat().st_size

    def add(self, request: str, answer: Mapping[str, object]) -> None:
        """Keep an answer; it survives a kill of this process from here on."""
        append(self._descriptor, {"request": request, "answer": answer})
        self.answers[request] = answer
        if time.monotonic() - self._copied_at >= COPY_SECONDS:
            self._copy()

    def add_server(self, server: Mapping[str, object]) -> None:
        """Keep the description of a server, once."""
        if server not in self.servers:
            append(self._descriptor, {"server": server})
            self.servers.append(server)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        self._copy()

    def _copy(self) -> None:
        """Copy the lines since the last copy to the bucket, if there is one."""
        if self._copies is None:
            return
        with self.path.open("rb") as file:
            file.seek(self._copied_bytes)
            lines = file.read()
        if lines:
            self._copies.send(lines)
        self._copied_bytes += len(lines)
        self._copied_at = time.monotonic()

    def _read(self) -> None:
        mend(self.path)
        for number, line in whole_lines(self.path):
            try:
                match json.loads(line):
                    case {"server": server}:
                        self.servers.append(server)
                    case row:
                        self.answers[row["request"]] = row["answer"]
            except (ValueError, KeyError, TypeError, RecursionError):
                logger.warning("%s, line %d is no answer of a server; its request is made again.", self.path, number)
