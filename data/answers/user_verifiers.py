"""Verifiers that a user's module registers for its own rows: unit tests, a JSON field, units.

In: a completion, and the answer of its row as a text. Out: whether it is right. The check runs in a separate process
with limited time and memory: exceeding them counts as wrong, and an exception in the check is an error of the stage.
"""

import importlib
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data.answers.judge_process import JudgeProcess, answer_questions, limit_memory
from scaling.registry import Registry, stamped

logger = logging.getLogger(__name__)


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


_REGISTRY = Registry[Verifier]("verifier")


def register_verifier(verifier: Verifier) -> Verifier:
    """Register a verifier. Raises ValueError if another one has its name."""
    return _REGISTRY.register(stamped(verifier))


def verifier_of(name: str) -> Verifier:
    """The verifier of a name, or of a stage's `name@source`. Raises ValueError for an unknown or a changed one."""
    plain, _, source = name.partition("@")
    found = _REGISTRY.records.get(plain)
    if found is None:
        known = ", ".join(_REGISTRY.names()) or "none"
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
    process = _PROCESSES.get(verifier) or _started(verifier)
    _PROCESSES[verifier] = process
    process.send({"completion": completion, "answer": answer})
    reply = process.reply(verifier.seconds)
    if reply in ("true", "false"):
        return reply == "true"
    process.kill()
    del _PROCESSES[verifier]
    if reply:
        raise RuntimeError(f"the verifier {verifier.name!r} failed on {completion[-200:]!r}: {json.loads(reply)}")
    why = f"took more than {verifier.seconds:g} s" if reply is None else "ended its process, perhaps for want of memory"
    logger.info("%r %s; the verifier %r counts it as wrong.", completion[-200:], why, verifier.name)
    return False


_PROCESSES: dict[Verifier, JudgeProcess] = {}


def _started(verifier: Verifier) -> JudgeProcess:
    """A process that judges one completion after another by one verifier."""
    module = sys.modules[verifier.check.__module__]
    if module.__file__ is None:
        raise ValueError(f"the module {module.__name__!r} has no file, so its verifier cannot run in a process.")
    process = JudgeProcess(__name__)
    process.send({"file": str(Path(module.__file__).resolve()), "name": verifier.name, "gib": verifier.gib})
    process.await_ready()
    return process


# In the process.


def serve() -> None:
    answer_questions(_judge)


def _judge() -> Callable[[Mapping[str, str]], object]:
    start = json.loads(sys.stdin.readline())
    file = Path(start["file"])
    sys.path.append(str(file.parent))
    importlib.import_module(file.stem)
    limit_memory(int(start["gib"] * 2**30))
    check = _REGISTRY.of(start["name"]).check

    def judge(asked: Mapping[str, str]) -> object:
        try:
            return bool(check(asked["completion"], asked["answer"]))
        except MemoryError:  # it ends the process
            raise
        except Exception as error:  # an error of the user's code is reported to the stage, which fails with it
            return f"{type(error).__name__}: {error}"

    return judge
