"""math-verify in a process of its own: `python -P math_worker.py`, started and killed by data.answers.math_process.

In: one JSON object a line on standard input, {"given": ..., "reference": ...} in LaTeX without dollars. Out: a line
`ready`, then one line `true` or `false` for each. It has no time limit of its own, because math-verify's is SIGALRM,
which cannot stop a power of large integers. Linux limits it: to two gigabytes, and to a minute of computing for one
question, after which it ends even where nobody is left to kill it.
"""

import json
import logging
import os
import sys
import time

MAX_BYTES = 2 * 2**30
MAX_CPU_SECONDS = 60


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    logging.disable(logging.WARNING)
    from math_verify import LatexExtractionConfig, parse, verify

    _limit_memory()
    configs = [LatexExtractionConfig()]

    def parsed(latex: str) -> list:
        return parse(
            f"${latex}$", configs, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
        )

    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        _limit_computing()
        asked = json.loads(line)
        reference, given = parsed(asked["reference"]), parsed(asked["given"])
        equal = bool(reference) and bool(given) and verify(reference, given, timeout_seconds=None)
        replies.write("true\n" if equal else "false\n")
        replies.flush()


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
