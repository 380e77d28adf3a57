"""Generation against transformers on the same two cores: `python -m benchmarks.generation`.

Both sides complete the same prompts from the same weights, in turn. Writes results/generation.json.
"""

import sys
from collections.abc import Sequence

from benchmarks import sides, workloads

WORK = {
    "sampling_1": ("sampling, one completion a prompt, ragged prompts", 3.0),
    "sampling_16": ("sampling, 16 completions a prompt", 6.0),
    "step_values": ("step values: 8 continuations of every prefix", 10.0),
    "greedy": ("greedy evaluation of 1,024 problems", 3.0),
}


def main(argv: Sequence[str] | None = None) -> None:
    settings = sides.parsed("generation", __doc__, argv)
    rows = sides.rows_of_other_sizes(settings, "generation")
    for size in settings.sizes:
        workloads.checkpoint(size, sides.CHECKPOINTS)
        for work, (what, target) in WORK.items():

            def side(python: str, module: str, shares: int, *threads: str, work=work, size=size) -> float:
                more = (str(shares), str(sides.CHECKPOINTS), str(settings.repeats), settings.counts, *threads)
                return sides.rate(
                    sides.run([[python, module, work, size, str(share), *more] for share in range(shares)])
                )

            ours = side(sys.executable, "ours", 2)
            two_threads, two_processes = side(settings.peer, "peer", 1, "2"), side(settings.peer, "peer", 2, "1")
            best = max(two_threads, two_processes)
            row = {"size": size, "work": work, "what": what, "ours": ours, "peer_two_threads": two_threads}
            row |= {"peer_two_processes": two_processes, "ratio": ours / best, "target": target}
            rows.append(row)
            print(f"{size:3} {what:52} ours {ours:8.0f}/s  peer {best:8.0f}/s  {ours / best:5.1f}x", flush=True)
            sides.write(settings, "generation", {"unit": "completions a second", "rows": rows})


if __name__ == "__main__":
    main()
