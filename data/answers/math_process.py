"""Run math-verify in a process that can be killed, so that a hostile answer costs no more than the time-out.

In: two answers in LaTeX. Out: whether they are equal; False if the time-out or the process's memory did not suffice.
One such process serves a whole Python process. If an answer takes long, a second one is started, to be ready when the
first is killed.
"""

import atexit
import importlib.util
import json
import logging
import select
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache, lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
START_SECONDS = 120.0  # until sympy is imported, on a busy machine
_SPARE_AFTER_SECONDS = 1.0  # nearly every answer is decided by then; a spare takes about two seconds to start
_WORKER = Path(__file__).with_name("math_worker.py")


@lru_cache(maxsize=2**16)
def equivalent(given: str, reference: str) -> bool:
    """Whether math-verify finds two answers equal; the same question is asked once."""
    return _shared().equivalent(given, reference)


class MathProcess:
    """A process with math-verify in it, replaced when it takes too long or dies."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError(
                "comparing answers that are not plain numbers needs the package math-verify, which is not installed;"
                " install the project with its extra: pip install --editable '.[problems]'."
            )
        self.timeout_seconds = timeout_seconds
        self.num_killed = 0  # answers that were not decided in time
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._spare: _Process | None = None

    def equivalent(self, given: str, reference: str) -> bool:
        """Whether the two are found equal in time."""
        with self._lock:
            process = self._process or self._spare or _Process()
            if process is self._spare:
                self._spare = None
            self._process = process
            process.await_ready()
            process.ask(given, reference)
            reply = process.reply(min(_SPARE_AFTER_SECONDS, self.timeout_seconds))
            if reply is None:
                self._spare = self._spare or _Process()
                reply = process.reply(self.timeout_seconds - _SPARE_AFTER_SECONDS)
            if reply is None or reply == "":
                what = f"took more than {self.timeout_seconds} s" if reply is None else "ended its process"
                logger.info("%r compared with %r %s; they count as different.", given, reference, what)
                self.num_killed += 1
                process.kill()
                self._process = None
            return reply == "true"

    def close(self) -> None:
        """End the processes."""
        for process in filter(None, (self._process, self._spare)):
            process.kill()
        self._process = self._spare = None


@cache
def _shared() -> MathProcess:
    shared = MathProcess()
    atexit.register(shared.close)
    return shared


class _Process:
    """One run of data/answers/math_worker.py."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()
        command = [sys.executable, "-P", str(_WORKER)]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, bufsize=0)
        assert self._popen.stdin is not None and self._popen.stdout is not None  # both are pipes
        self._questions, self._replies = self._popen.stdin, self._popen.stdout
        self._is_ready = False
        self._started = time.monotonic()

    def await_ready(self) -> None:
        """Return once it is ready."""
        if self._is_ready:
            return
        reply = self.reply(START_SECONDS - (time.monotonic() - self._started))
        if reply != "ready":
            self.kill(keep_errors=True)
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()[-500:]
            raise RuntimeError(
                f"{_WORKER.name} did not start within {START_SECONDS:.0f} s; it says: {said or 'nothing'}. Check that"
                " python -c 'import math_verify' works in this environment."
            )
        self._is_ready = True

    def ask(self, given: str, reference: str) -> None:
        try:
            self._questions.write((json.dumps({"given": given, "reference": reference}) + "\n").encode())
        except BrokenPipeError:
            logger.info("%s has ended; its reply will be missing.", _WORKER.name)

    def reply(self, seconds: float) -> str | None:
        """The next line; "" if the process has ended, None if no line comes in time."""
        ready, _, _ = select.select([self._replies], [], [], max(0.0, seconds))
        return self._replies.readline().decode().strip() if ready else None

    def kill(self, keep_errors: bool = False) -> None:
        self._popen.kill()
        self._popen.wait()
        self._questions.close()
        self._replies.close()
        if not keep_errors:
            self._errors.close()
