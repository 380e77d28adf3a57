"""The ledger: every reply that was paid for, kept before it is used. No crash loses one, and none is paid for twice.

In: a folder and the seed of a run. Out: `Ledger`, which finds a reply by the digest of its request. One file of JSON
lines for each seed, only ever appended to, each line flushed to the disk. A request for the same use in the same
words is paid for once, so all sizes of a study share replies, and changing settings that only sift them is free. The
folder is locked while a stage sends requests, so stages neither repeat a request nor together exceed a rate limit or
a budget.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from data.json_lines import append, mend, open_lines, whole_lines
from scaling.filelock import FileLock
from scaling.stage import canonical_json

logger = logging.getLogger(__name__)

LOCK = ".lock"
_TELL_SECONDS = 30.0  # between log lines while another stage holds it


@dataclass(frozen=True)
class Reply:
    """A reply as it was paid for. What was sent follows from the key's request, so only the reply is kept."""

    key: str  # digest of the request
    teacher: str
    model: str  # as the server names it, often with a date
    finish_reason: str  # of the protocol: stop, length, content_filter, ...
    content: str | None
    refusal: str | None
    input_tokens: int
    output_tokens: int
    tokens_are_estimated: bool  # the server did not count them: the most they can be
    cost_usd: float | None  # None without prices
    endpoint: str
    time: float  # seconds since the epoch


@dataclass(frozen=True)
class Spent:
    """What replies have cost."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0  # of those with a price

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, reply: Reply) -> "Spent":
        return Spent(
            self.requests + 1,
            self.input_tokens + reply.input_tokens,
            self.output_tokens + reply.output_tokens,
            self.usd + (reply.cost_usd or 0.0),
        )


class Ledger:
    """One open ledger; made by `opened`, whose lock it needs."""

    def __init__(self, path: Path, replies: dict[str, Reply], spent: Spent) -> None:
        self.path = path
        self.spent = spent  # of the whole folder
        self._replies = replies
        self._descriptor = open_lines(path)
        _flush_folder(path.parent)

    def __len__(self) -> int:
        return len(self._replies)

    def find(self, key: str) -> Reply | None:
        """The reply to a request, if it was paid for before."""
        return self._replies.get(key)

    def add(self, reply: Reply) -> None:
        """Keep a reply; it is on the disk when this returns."""
        append(self._descriptor, asdict(reply))
        os.fsync(self._descriptor)
        self._replies[reply.key] = reply
        self.spent = self.spent.plus(reply)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def opened(folder: Path, seed: int) -> Iterator[Ledger]:
    """The ledger of a run's seed, with the folder's lock held; waits for a stage that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        path = ledger_path(folder, seed)
        if path.exists() and (num_dropped := mend(path)):
            logger.warning("%s ends in a line that a crash cut off; its %d bytes are dropped.", path, num_dropped)
        replies = {reply.key: reply for reply in _read(path)} if path.exists() else {}
        others = (reply for other in sorted(folder.glob("*.jsonl")) if other != path for reply in _read(other))
        with closing(Ledger(path, replies, _sum([*replies.values()], _sum(others)))) as ledger:
            yield ledger


def ledger_path(folder: Path, seed: int) -> Path:
    """Where a run's seed has its ledger."""
    return folder / f"seed-{seed}.jsonl"


def spent_in(folder: Path) -> Spent:
    """The cost of all ledgers of a folder; zero if there are none. Needs no lock."""
    return _sum(reply for path in sorted(folder.glob("*.jsonl")) for reply in _read(path))


def request_key(request: Mapping[str, object]) -> str:
    """Digest of a request: equal exactly for the same request and use."""
    return hashlib.sha256(canonical_json(request).encode()).hexdigest()[:24]


def _sum(replies: Iterator[Reply] | list[Reply], spent: Spent = Spent()) -> Spent:
    for reply in replies:
        spent = spent.plus(reply)
    return spent


def _read(path: Path) -> Iterator[Reply]:
    for number, line in whole_lines(path):
        try:
            yield Reply(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number} is {line[:60]!r}, not a teacher's reply ({error}). The file holds what was paid"
                " for and is not to be edited: take the line out, or move the file away to pay for all again."
            ) from error


def _locked(folder: Path) -> FileLock:
    """The folder's lock, which the process releases even if it crashes."""
    while True:
        try:
            return FileLock.acquire(folder / LOCK, _TELL_SECONDS)
        except TimeoutError:
            logger.info("Another teacher stage is asking; this one waits for %s.", folder / LOCK)


def _flush_folder(folder: Path) -> None:
    """Make a new file's name survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
