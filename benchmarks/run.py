"""Everything that `make bench` runs, one after another: `python -m benchmarks.run PEER_PYTHON [REPEATS] [quick]`.

Writes benchmarks/results/*.json and docs/performance.md. About half an hour on two quiet cores; `quick` takes a few
minutes and writes numbers that are good for trying the benchmark only.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import page
from benchmarks.machine import machine_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CHECKPOINTS = ROOT / "benchmarks" / ".cache" / "checkpoints"


def main() -> None:
    peer, repeats = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "3"
    quick = ["quick"] if "quick" in sys.argv else []
    _run("-m", "benchmarks.generation", peer, repeats)
    _run("-m", "benchmarks.training", peer, repeats, *quick)
    _run("-m", "benchmarks.adaptive")
    _run("benchmarks/engine.py")
    for name in ("peak", "growth"):
        shown = _run(f"benchmarks/{name}.py", str(CHECKPOINTS), repeats, keep=True)
        found = {"unit": {"peak": "1e9 FLOPs a second", "growth": "tokens a second"}[name], "machine": machine_of(peer)}
        (RESULTS / f"{name}.json").write_text(json.dumps({**found, "found": json.loads(shown)}, indent=1) + "\n")
    page.main()


def _run(*command: str, keep: bool = False) -> str:
    print(f"== {' '.join(command)}", flush=True)
    pipe = subprocess.PIPE if keep else None
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, text=True, stdout=pipe)
    return done.stdout if keep else ""


if __name__ == "__main__":
    main()
