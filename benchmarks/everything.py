"""All benchmarks in turn: `make bench`, or `python -m benchmarks.everything [--quick]` with the extra `bench`.

Each is a command of its own, so that none runs beside another. Writes benchmarks/results/*.json, then the page and the
figure from them; with --quick only shows that everything runs, in some ten minutes, and writes neither.
"""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks import page, sides


def main(argv: Sequence[str] | None = None) -> None:
    settings = sides.parsed("everything", __doc__, argv)
    arguments = ["--peer", settings.peer, "--repeats", str(settings.repeats), "--out", str(settings.out)]
    arguments += ["--quick"] if settings.quick else []
    for module in ("generation", "training", "utilisation"):
        _run(["-m", f"benchmarks.{module}", *arguments])
    _run(["-m", "benchmarks.growth", "--out", str(settings.out), *(["--quick"] if settings.quick else [])])
    if settings.quick:
        return
    _run(["benchmarks/engine.py"])
    page.main()


def _run(words: Sequence[str]) -> None:
    print(f"== {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, *words], cwd=sides.HERE.parent, check=True)


if __name__ == "__main__":
    main()
