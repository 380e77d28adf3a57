"""What a server has answered, kept row by row: a killed stage asks again only for what had no answer yet.

In: the working directory of a stage, whose `checkpoints/` outlives a killed or failed attempt. Out: answers by the
digest of their request, and the servers that gave them. One JSON object a line; a line that a kill cut short is
dropped, and its request is made again.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from scaling.stage import CHECKPOINTS

FILE = "answers.jsonl"


class Journal:
    """The answers and servers so far, and the file that they are appended to."""

    def __init__(self, out: Path) -> None:
        self.path = out / CHECKPOINTS / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Mapping] = {}
        self.servers: list[Mapping] = []  # what each told of itself
        if self.path.exists():
            self._read()
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, request: str, answer: Mapping[str, object]) -> None:
        """Keep an answer; it survives a kill of this process from here on."""
        self.answers[request] = answer
        self._write({"request": request, "answer": answer})

    def add_server(self, told: Mapping[str, object]) -> None:
        """Keep what a server tells of itself, once."""
        if told not in self.servers:
            self.servers.append(told)
            self._write({"server": told})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, row: Mapping[str, object]) -> None:
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def _read(self) -> None:
        written = self.path.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                match json.loads(line):
                    case {"server": told}:
                        self.servers.append(told)
                    case row:
                        self.answers[row["request"]] = row["answer"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number} is {line[:60]!r}, no answer of a server; delete the file and run the"
                    " sweep again."
                ) from error
        if len(whole) < len(written):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
