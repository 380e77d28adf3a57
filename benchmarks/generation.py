"""Generation against transformers on the same two cores: `python -m benchmarks.generation PEER_PYTHON [REPEATS]`.

Ours runs as two one-thread workers, as a sweep does; the peer as one process of two threads and as two of one, and the
faster of both counts. Both sides run in turn. Writes benchmarks/results/generation.json.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import workloads
from benchmarks.machine import machine_of

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "generation.json"
WORK = {
    "sampling_1": ("sampling, one completion a prompt, ragged prompts", 3.0),
    "sampling_16": ("sampling, 16 completions a prompt", 6.0),
    "step_values": ("step values: 8 continuations of every prefix", 10.0),
    "greedy": ("greedy evaluation of 1,024 problems", 3.0),
}


def main() -> None:
    peer, repeats = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = HERE / ".cache" / "checkpoints"
    rows = []
    for size in workloads.SIZES:
        workloads.checkpoint(size, folder)
        for work, (what, target) in WORK.items():
            ours = _rate([sys.executable, "ours.py", work, size], 2, folder, repeats, [])
            two_threads = _rate([peer, "peer.py", work, size], 1, folder, repeats, ["2"])
            two_processes = _rate([peer, "peer.py", work, size], 2, folder, repeats, ["1"])
            best = max(two_threads, two_processes)
            row = {"size": size, "work": work, "what": what, "ours": ours, "peer_two_threads": two_threads}
            row |= {"peer_two_processes": two_processes, "ratio": ours / best, "target": target}
            rows.append(row)
            print(f"{size:3} {what:52} ours {ours:8.0f}/s  peer {best:8.0f}/s  {ours / best:5.1f}x", flush=True)
            _write(rows, peer, repeats)


def _write(rows: list[dict], peer: str, repeats: int) -> None:
    document = {"unit": "completions a second", "repeats": repeats, "machine": machine_of(peer), "rows": rows}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")


def _rate(command: list[str], shares: int, folder: Path, repeats: int, more: list[str]) -> float:
    """Completions a second: rows of all shares over the median of the slowest share's seconds."""
    processes = [
        subprocess.Popen(
            [*command, str(share), str(shares), str(folder), str(repeats), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )
        for share in range(shares)
    ]
    results = []
    for process in processes:
        out, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{error[-2000:]}")
        results.append(json.loads(out.strip().splitlines()[-1]))
    slowest = max(statistics.median(result["seconds"]) for result in results)
    return sum(result["rows"] for result in results) / slowest


if __name__ == "__main__":
    main()
