"""Runs one side of a benchmark as processes, and says on which machine and by which command it ran.

A side is a module of this folder that prints JSON with `rows` and `seconds`, one entry a repeat. Our side is two
workers of one thread; the peer is run as one process of two threads and as two of one, and the faster of both counts.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.workloads import SIZES

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
CHECKPOINTS = HERE / ".cache" / "checkpoints"
_VERSIONS = """
import json
from importlib import metadata
print(json.dumps({name: metadata.version(name) for name in ("torch", "transformers", "trl")}))
"""


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run."""

    peer: str  # the interpreter of the peer's environment
    repeats: int
    quick: bool  # tiny counts, the smallest size: shows that everything runs; its numbers mean nothing
    out: Path  # directory of the JSON
    sizes: tuple[str, ...]  # policies to measure

    @property
    def counts(self) -> str:
        return "quick" if self.quick else "full"


def parsed(module: str, description: str, argv: Sequence[str] | None) -> Settings:
    """The command line that all benchmarks against a peer have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description.split("\n")[0])
    parser.add_argument("--peer", default=sys.executable, help="python with torch, transformers and trl")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny counts, one repeat, results outside of the tree")
    parser.add_argument("--out", type=Path, help="directory of the JSON")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="measure these sizes again only")
    given = parser.parse_args(argv)
    out = given.out or (HERE / ".cache" / "quick" if given.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    sizes = tuple(given.sizes[:1] if given.quick else given.sizes)
    return Settings(given.peer, 1 if given.quick else given.repeats, given.quick, out, sizes)


def run(commands: Sequence[Sequence[str]]) -> list[dict]:
    """Run the processes at once, `[python, module, *arguments]` each, and read the JSON of each one's last line."""
    processes = []
    for python, module, *arguments in commands:
        words = [python, "-m", f"benchmarks.{module}", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append((words, subprocess.Popen(words, text=True, cwd=HERE.parent, **pipes)))
    results = []
    for words, process in processes:
        out, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{shlex.join(words)} failed with exit code {process.returncode}:\n{error[-2000:]}")
        results.append(json.loads(out.strip().splitlines()[-1]))
    return results


def rate(results: Sequence[Mapping], what: str = "rows") -> float:
    """A second: the sum over the processes, over the slowest one's median."""
    return sum(result[what] for result in results) / max(statistics.median(result["seconds"]) for result in results)


def machine() -> dict[str, object]:
    """What every JSON says of the machine."""
    return {"platform": platform.platform(), "cores": os.cpu_count(), "processor": _processor()}


def environment(settings: Settings, module: str) -> dict[str, object]:
    """Machine, versions and command."""
    found = subprocess.run([settings.peer, "-c", _VERSIONS], capture_output=True, text=True, check=True)
    return {
        "machine": machine(),
        "versions": {"python": platform.python_version(), "jax": metadata.version("jax"), **json.loads(found.stdout)},
        "command": f"python -m benchmarks.{module} --repeats {settings.repeats}"
        + (" --quick" if settings.quick else ""),
        "repeats": settings.repeats,
    }


def write(settings: Settings, module: str, figures: Mapping[str, object]) -> None:
    document = {**environment(settings, module), **figures}
    (settings.out / f"{module}.json").write_text(json.dumps(document, indent=1) + "\n")


def rows_of_other_sizes(settings: Settings, module: str) -> list[dict]:
    """Rows of an earlier run on the same machine with the same versions, of sizes that are not measured again."""
    path = settings.out / f"{module}.json"
    if not path.exists():
        return []
    before, now = json.loads(path.read_text()), environment(settings, module)
    if any(before[key] != now[key] for key in ("machine", "versions", "repeats")):
        return []
    return [row for row in before["rows"] if row["size"] not in settings.sizes]


def _processor() -> str:
    """The name that Linux gives it, else what Python knows."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
