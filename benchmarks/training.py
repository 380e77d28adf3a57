"""SFT and DPO against TRL on the same two cores: `python -m benchmarks.training PEER_PYTHON [REPEATS] [quick]`.

Ours runs as two one-thread workers, as a sweep does. The peer fills batches in the way that is fastest in a short trial
of all that it has; with it, it runs as one process of two threads and as two of one, and the faster counts. Both sides
run in turn. Writes benchmarks/results/training.json.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import workloads
from benchmarks.machine import machine_of

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "training.json"
WORK = {
    "sft": ("SFT, ragged sequences", 2.0, ("padded", "grouped", "packed", "padding_free")),
    "dpo": ("DPO, reference log-probabilities included", 2.0, ("padded", "grouped")),
}


def main() -> None:
    peer, repeats = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    amount = "quick" if "quick" in sys.argv else "full"
    folder, rows = ROOT / "benchmarks" / ".cache" / "checkpoints", []
    for size in workloads.SIZES:
        workloads.checkpoint(size, folder)
        for work, (what, target, modes) in WORK.items():
            theirs, ours = ["benchmarks.peer_training", work, size], ["benchmarks.ours_training", work, size]
            trials = {mode: rate(peer, theirs, 2, [folder, 1, "quick", 1, mode]) for mode in modes}
            mode = max(trials, key=lambda name: trials[name] or 0.0)
            found = {
                "ours": rate(sys.executable, ours, 2, [folder, repeats, amount]),
                "peer_two_threads": rate(peer, theirs, 1, [folder, repeats, amount, 2, mode]),
                "peer_two_processes": rate(peer, theirs, 2, [folder, repeats, amount, 1, mode]),
            }
            best = max(found["peer_two_threads"] or 0.0, found["peer_two_processes"] or 0.0)
            ratio = found["ours"] / best
            rows.append({"size": size, "work": work, "what": what, **found, "mode": mode, "trials": trials})
            rows[-1] |= {"ratio": ratio, "target": target}
            print(
                f"{size:3} {what:44} ours {found['ours']:7.0f}/s  peer {best:7.0f}/s ({mode})  {ratio:4.1f}x",
                flush=True,
            )
            document = {
                "unit": "rows trained on a second",
                "repeats": repeats,
                "machine": machine_of(peer),
                "rows": rows,
            }
            RESULT.write_text(json.dumps(document, indent=1) + "\n")


def rate(python: str, command: list[str], shares: int, more: list[object]) -> float | None:
    """Rows a second of all shares, by the slowest share's median; None where the peer refuses a way to fill batches."""
    processes = [
        subprocess.Popen(
            [python, "-m", *command, str(share), *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for share in range(shares)
    ]
    results = []
    for process in processes:
        out, error = process.communicate()
        if process.returncode:
            print(f"{' '.join(command)} {more[-1]}: {error.strip().splitlines()[-1]}", file=sys.stderr)
        results.append(json.loads(out.strip().splitlines()[-1]) if process.returncode == 0 else None)
    if None in results:
        return None
    slowest = max(statistics.median(result["seconds"]) for result in results)
    return sum(result["rows"] for result in results) / slowest


if __name__ == "__main__":
    main()
