"""Verifiers that a user's module registers for its own rows: unit tests, a JSON field, units.

In: a completion, and the answer of its row as a text. Out: whether it is right. The check runs in a separate process
with limited time and memory: exceeding them counts as wrong, and an exception in the check is an error of the stage.
"""

import json
import logging
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from scaling.kinds import source_being_imported

logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # until the module is imported, on a busy machine
_PROGRAM = "from data.answers.user_verifiers import serve; serve()"
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Verifier:
    """A judge of completions, by name: `problems: {family: jsonl, verifier: NAME}`."""

    name: str
    check: Callable[[str, str], bool]  # (completion, answer of the row) -> whether it is right
    seconds: float = 10.0  # for one completion
    gib: float = 2.0  # of address space for the process
    source: str = ""  # digest of the module that registered it

    @property
    def identity(self) -> str:
        """The name with its source, as in a stage's config: another check gives other results."""
        return f"{self.name}@{self.source}"


_VERIFIERS: dict[str, Verifier] = {}


def register_verifier(verifier: Verifier) -> Verifier:
    """Register a verifier. Raises ValueError if another one has its name."""
    verifier = replace(verifier, source=verifier.source or source_being_imported())
    if _VERIFIERS.setdefault(verifier.name, verifier) != verifier:
        raise ValueError(f"the verifier {verifier.name!r} is already registered; give yours another name.")
    return verifier


def verifier_of(name: str) -> Verifier:
    """The verifier of a name, or of a stage's `name@source`. Raises ValueError for an unknown or a changed one."""
    plain, _, source = name.partition("@")
    found = _VERIFIERS.get(plain)
    if found is None:
        known = ", ".join(_VERIFIERS) or "none"
        raise ValueError(
            f"problems.verifier is {plain!r}, which no imported module registers (known: {known}); name its file with"
            " --import or in imports."
        )
    if source and source != found.source:
        raise ValueError(f"the verifier {plain!r} has changed since this stage was planned; run the sweep again.")
    return found


def is_right(name: str, completion: str, answer: str) -> bool:
    """The judgement of a registered verifier, in its process."""
    verifier = verifier_of(name)
    process = _PROCESSES.get(verifier) or _Process(verifier)
    _PROCESSES[verifier] = process
    reply = process.ask(completion, answer)
    if reply in ("true", "false"):
        return reply == "true"
    process.kill()
    del _PROCESSES[verifier]
    if reply:
        raise RuntimeError(f"the verifier {verifier.name!r} failed on {completion[-200:]!r}: {json.loads(reply)}")
    why = f"took more than {verifier.seconds:g} s" if reply is None else "ended its process, perhaps for want of memory"
    logger.info("%r %s; the verifier %r counts it as wrong.", completion[-200:], why, verifier.name)
    return False


class _Process:
    """A process that judges one completion after another by one verifier."""

    def __init__(self, verifier: Verifier) -> None:
        module = sys.modules[verifier.check.__module__]
        self._seconds = verifier.seconds
        self._errors = tempfile.TemporaryFile()
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); {_PROGRAM}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._write({"file": _file_of(module), "name": verifier.name, "gib": verifier.gib})
        if self._read(START_SECONDS) != "ready":
            self._popen.kill()
            self._popen.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-500:]
            self.kill()
            raise RuntimeError(f"the process of the verifier {verifier.name!r} did not start; it says: {said}")

    def ask(self, completion: str, answer: str) -> str | None:
        """true, false, a JSON text of an exception, "" if the process has ended, None if time has run out."""
        self._write({"completion": completion, "answer": answer})
        return self._read(self._seconds)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _write(self, message: dict[str, object]) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write((json.dumps(message) + "\n").encode())
        except BrokenPipeError:
            logger.info("The process of a verifier has ended; its reply will be missing.")

    def _read(self, seconds: float) -> str | None:
        assert self._popen.stdout is not None
        ready, _, _ = select.select([self._popen.stdout], [], [], seconds)
        return self._popen.stdout.readline().decode().strip() if ready else None


_PROCESSES: dict[Verifier, _Process] = {}


def serve() -> None:
    """Judge until the input ends: the process's side. A line a question, a line a reply."""
    import importlib
    import os
    import resource

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a check prints goes to standard error
    start = json.loads(sys.stdin.readline())
    file = Path(start["file"])
    sys.path.append(str(file.parent))
    importlib.import_module(file.stem)
    limit = int(start["gib"] * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    check = _VERIFIERS[start["name"]].check
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            reply = "true" if check(asked["completion"], asked["answer"]) else "false"
        except MemoryError:
            return
        except Exception as error:  # an error of the user's code is reported to the stage, which fails with it
            reply = json.dumps(f"{type(error).__name__}: {error}")
        replies.write(f"{reply}\n")
        replies.flush()


def _file_of(module: ModuleType) -> str:
    if module.__file__ is None:
        raise ValueError(f"the module {module.__name__!r} has no file, so its verifier cannot run in a process.")
    return str(Path(module.__file__).resolve())
