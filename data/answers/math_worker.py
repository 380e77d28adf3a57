"""math-verify in a process of its own: `python -P math_worker.py`, started and killed by data.answers.math_process.

In: one JSON object a line on standard input, {"given": ..., "reference": ...} in LaTeX without dollars. Out: a line
`ready`, then one line `true` or `false` for each. It has no time limit of its own, because math-verify's is SIGALRM,
which cannot stop a power of large integers. Linux limits it: to two gigabytes, and to a minute of computing for one
question, after which it ends even if no process is left to kill it.
"""

import json
import logging
import os
import sys
import time
from typing import Any

MAX_BYTES = 2 * 2**30
MAX_CPU_SECONDS = 60
MORE_DIGITS, SPARE_DIGITS = 60, 10  # compared beyond those that are written; the last ones may differ
MAX_WRITTEN = 400  # digits of an answer


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints goes to standard error
    logging.disable(logging.WARNING)
    from math_verify import LatexExtractionConfig, grader, parse, verify

    grader.sympy_numeric_eq = _same_number
    _limit_memory()
    configs = [LatexExtractionConfig()]

    def parsed(latex: str) -> list[Any]:
        found = parse(
            f"${latex}$", configs, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
        )
        return [_exact(item) for item in found]

    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        _limit_computing()
        asked = json.loads(line)
        reference, given = parsed(asked["reference"]), parsed(asked["given"])
        equal = (
            bool(reference)
            and bool(given)
            and all(verify(*pair, timeout_seconds=None) for pair in ((reference, given), (given, reference)))
        )
        replies.write("true\n" if equal else "false\n")
        replies.flush()


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


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


def _limit_computing() -> None:
    if sys.platform != "linux":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + MAX_CPU_SECONDS, most))


if __name__ == "__main__":
    main()
