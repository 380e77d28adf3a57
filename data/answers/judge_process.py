"""A process that judges answers and can be killed, so that a hostile answer costs no more than its time and memory.

In: a module whose `serve` judges in the process, and questions. Out: its replies. Both are JSON, one a line; what the
process prints otherwise goes to a file that is quoted if the process does not start.
"""

import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # until its libraries are imported, on a busy machine
_PROJECT = Path(__file__).resolve().parents[2]


class JudgeProcess:
    """One such process; it starts in the background."""

    def __init__(self, module: str, cure: str = "") -> None:
        """module: the one whose `serve` judges. cure: completes the message of a process that does not start."""
        self._module, self._cure = module, cure
        self._errors = tempfile.TemporaryFile()
        program = f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); from {module} import serve; serve()"
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", program], stdin=pipe, stdout=pipe, stderr=self._errors, bufsize=0
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None  # both are pipes
        self._questions, self._replies = self._popen.stdin, self._popen.stdout
        self._is_ready = False
        self._started = time.monotonic()

    def await_ready(self) -> None:
        """Return once it is ready; raises RuntimeError with what it says if it does not start."""
        if self._is_ready:
            return
        if self.reply(START_SECONDS - (time.monotonic() - self._started)) != '"ready"':
            self._popen.kill()
            self._popen.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-500:]
            self.kill()
            raise RuntimeError(
                f"the process of {self._module} did not start within {START_SECONDS:.0f} s; it says:"
                f" {said or 'nothing'}. {self._cure}".rstrip()
            )
        self._is_ready = True

    def send(self, question: Mapping[str, object]) -> None:
        try:
            self._questions.write((json.dumps(question) + "\n").encode())
        except BrokenPipeError:
            logger.info("The process of %s has ended; its reply will be missing.", self._module)

    def reply(self, seconds: float) -> str | None:
        """The JSON of the next reply; "" if the process has ended, None if no reply comes in time."""
        ready, _, _ = select.select([self._replies], [], [], max(0.0, seconds))
        return self._replies.readline().decode().strip() if ready else None

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for file in (self._questions, self._replies, self._errors):
            file.close()


def answer_questions(start: Callable[[], Callable[[Any], object]]) -> None:
    """The process's side: judge until the input ends. start: makes the judge, which gets one question at a time."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library or a check prints goes to standard error
    judge = start()
    replies.write('"ready"\n')
    for line in sys.stdin:
        replies.write(json.dumps(judge(json.loads(line))) + "\n")


def limit_memory(num_bytes: int) -> None:
    """Limit the address space of this process, where the system can: on Linux."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
