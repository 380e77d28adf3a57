"""Share of the machine's matmul peak: `python -m benchmarks.utilisation`. Writes results/utilisation.json.

The peak is the best of numpy, jax and torch on large float32 matmuls, in two processes of one thread at once, measured
in the same run. The work's FLOPs are those of scaling.model.flops: matrix products of real tokens, padding not counted.
"""

import sys
from collections.abc import Sequence

from benchmarks import sides, workloads

SIZE = "m"
WORK = {
    "sft": ("training, 4.7M parameters", 0.5),
    "decoding": ("decoding at batch 256, 4.7M parameters", 0.15),
}


def main(argv: Sequence[str] | None = None) -> None:
    settings = sides.parsed("utilisation", __doc__, argv)
    workloads.checkpoint(SIZE, sides.CHECKPOINTS)
    pythons = {"numpy": sys.executable, "jax": sys.executable, "torch": settings.peer}
    repeats, folder = str(settings.repeats), str(sides.CHECKPOINTS)
    peaks = {
        library: sides.rate(sides.run([[python, "peak", library, share, repeats] for share in "01"]), "flops")
        for library, python in pythons.items()
    }
    rows = []
    for work, (what, target) in WORK.items():
        if work == "sft":
            shares = [[sys.executable, "ours_training", work, SIZE, share] for share in "01"]
        else:
            shares = [[sys.executable, "ours", work, SIZE, share, "2"] for share in "01"]
        results = sides.run([[*command, folder, repeats, settings.counts] for command in shares])
        flops = sides.rate(results, "flops")
        share = flops / max(peaks.values())
        rows.append(
            {"size": SIZE, "work": work, "what": what, "flops_per_second": flops, "share": share, "target": target}
        )
        print(
            f"{SIZE:3} {what:45} {flops / 1e9:6.1f} GFLOP/s of {max(peaks.values()) / 1e9:6.1f}: {share:.1%}",
            flush=True,
        )
    sides.write(settings, "utilisation", {"peak_flops_per_second": peaks, "rows": rows})


if __name__ == "__main__":
    main()
