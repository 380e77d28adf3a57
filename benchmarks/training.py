"""SFT and DPO against TRL on the same two cores: `python -m benchmarks.training`. Writes results/training.json.

Both sides train on the same sequences from the same weights, with as many a batch, as many epochs, float32 and AdamW.
The peer fills batches in the way that is fastest in a trial at this size; both of its process configurations are timed.
"""

import sys
from collections.abc import Sequence

from benchmarks import sides, workloads

WORK = {
    "sft": ("SFT, ragged sequences", 2.0, ("grouped", "padded", "packed", "padding_free")),
    "dpo": ("DPO, reference log-probabilities included", 2.0, ("grouped", "padded")),
}


def main(argv: Sequence[str] | None = None) -> None:
    settings = sides.parsed("training", __doc__, argv)
    rows = sides.rows_of_other_sizes(settings, "training")
    for size in settings.sizes:
        workloads.checkpoint(size, sides.CHECKPOINTS)
        for work, (what, target, modes) in WORK.items():
            arguments = (str(sides.CHECKPOINTS), str(settings.repeats), settings.counts)

            def peer(share: int, threads: int, mode: str, given=(work, size, arguments)) -> list[str]:
                work, size, arguments = given
                return [settings.peer, "peer_training", work, size, str(share), *arguments, str(threads), mode]

            trial = (str(sides.CHECKPOINTS), "1", "quick")
            trials = {
                mode: sides.rate(sides.run([peer(share, 1, mode, (work, size, trial)) for share in (0, 1)]))
                for mode in modes
            }
            mode = max(trials, key=trials.get)
            ours = sides.run(
                [[sys.executable, "ours_training", work, size, str(share), *arguments] for share in (0, 1)]
            )
            configurations = {
                "peer_two_processes": sides.rate(sides.run([peer(share, 1, mode) for share in (0, 1)])),
                "peer_two_threads": sides.rate(sides.run([peer(0, 2, mode)])),
            }
            best = max(configurations.values())
            row = {"size": size, "work": work, "what": what, "ours": sides.rate(ours), **configurations}
            row |= {"peer_trials": trials, "peer_mode": mode, "ratio": sides.rate(ours) / best, "target": target}
            rows.append(row | {"ours_flops_per_second": sides.rate(ours, "flops")})
            print(f"{size:3} {what:45} ours {row['ours']:7.0f}/s  peer {best:7.0f}/s  {row['ratio']:5.2f}x", flush=True)
            sides.write(settings, "training", {"unit": "sequences or pairs a second", "rows": rows})


if __name__ == "__main__":
    main()
