"""Compare two answers by math-verify, in a process that can be killed.

In: two answers in LaTeX, without dollars. Out: whether they are equal; False if the time-out or the process's memory
did not suffice. One such process serves a whole Python process. If an answer takes long, a second one is started, to be
ready when the first is killed: math-verify's own time limit is SIGALRM, which cannot stop a power of large integers.
Linux limits the process as well: to two gigabytes, and to a minute of computing for one question, after which it ends
even if no process is left to kill it.
"""

import atexit
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from data.answers.judge_process import JudgeProcess, answer_questions, limit_memory

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
MAX_BYTES = 2 * 2**30
MAX_CPU_SECONDS = 60
MORE_DIGITS, SPARE_DIGITS = 60, 10  # compared beyond those that are written; the last ones may differ
MAX_WRITTEN = 400  # digits of an answer
_SPARE_AFTER_SECONDS = 1.0  # nearly every answer is decided by then; a spare takes about two seconds to start


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
        self._process: JudgeProcess | None = None
        self._spare: JudgeProcess | None = None

    def equivalent(self, given: str, reference: str) -> bool:
        """Whether the two are found equal in time."""
        with self._lock:
            process = self._process or self._spare or _started()
            if process is self._spare:
                self._spare = None
            self._process = process
            process.await_ready()
            process.send({"given": given, "reference": reference})
            reply = process.reply(min(_SPARE_AFTER_SECONDS, self.timeout_seconds))
            if reply is None:
                self._spare = self._spare or _started()
                reply = process.reply(self.timeout_seconds - _SPARE_AFTER_SECONDS)
            if not reply:
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


def _started() -> JudgeProcess:
    return JudgeProcess(__name__, "Check that python -c 'import math_verify' works in this environment.")


@cache
def _shared() -> MathProcess:
    shared = MathProcess()
    atexit.register(shared.close)
    return shared


# In the process.


def serve() -> None:
    answer_questions(_judge)


def _judge() -> Callable[[Mapping[str, str]], bool]:
    logging.disable(logging.WARNING)
    from math_verify import LatexExtractionConfig, grader, parse, verify

    grader.sympy_numeric_eq = _same_number
    limit_memory(MAX_BYTES)
    configs = [LatexExtractionConfig()]

    def parsed(latex: str) -> list[Any]:
        found = parse(
            f"${latex}$", configs, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
        )
        return [_exact(item) for item in found]

    def judge(asked: Mapping[str, str]) -> bool:
        _limit_computing()
        reference, given = parsed(asked["reference"]), parsed(asked["given"])
        return (
            bool(reference)
            and bool(given)
            and all(verify(*pair, timeout_seconds=None) for pair in ((reference, given), (given, reference)))
        )

    return judge


def _exact(expression: object) -> object:
    """Decimals as exact fractions: 1.414214 is near the root of 2, but not equal to it."""
    from sympy import Basic, Float, MatrixBase, Rational

    if isinstance(expression, MatrixBase):
        return expression.applyfunc(_exact)
    if isinstance(expression, Float):
        return Rational(str(expression))
    if not isinstance(expression, Basic) or not expression.has(Float):
        return expression
    return expression.func(*map(_exact, expression.args))


def _same_number(one: Any, other: Any, *rounding: int) -> bool:
    """In place of math-verify's own, which rounds: equal to fifty digits more than either is written with, however
    small or large the numbers are.
    """
    from sympy import MatrixBase, Rational

    if isinstance(one, MatrixBase) or isinstance(other, MatrixBase):
        return False  # the symbolic comparison decides
    one, other = one.doit(), other.doit()
    if one == other:
        return True
    if one.free_symbols or other.free_symbols or (one.is_Rational and other.is_Rational):
        return False
    bits = max(
        part.p.bit_length() + part.q.bit_length()
        for number in (one, other)
        for part in {Rational(1), *number.atoms(Rational)}
    )
    written = min(bits // 3, MAX_WRITTEN)
    values = [number.evalf(MORE_DIGITS + written) for number in (one, other)]
    if not all(value.is_number and value.is_finite for value in values):
        return False
    apart, size = abs(values[0] - values[1]), max(map(abs, values))
    return bool(apart <= size * Rational(10) ** (SPARE_DIGITS - MORE_DIGITS - written))


def _limit_computing() -> None:
    if sys.platform != "linux":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + MAX_CPU_SECONDS, most))
