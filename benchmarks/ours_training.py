"""Our side of the training benchmark: `python -m benchmarks.ours_training WORK SIZE SHARE FOLDER REPEATS QUICK`.

Prints JSON. One process is one worker of one thread that trains a run of its own, seeded by its share, as a sweep does.
The clock runs from token lists to the saved policy; DPO is the whole stage, reference log-probabilities included.
Start-up and compilation are outside of it, as a long-lived worker pays them once.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"
work, size, share = sys.argv[1], sys.argv[2], int(sys.argv[3])
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[share % len(cores)]})

import pandas as pd

from algorithms import dpo, sft
from benchmarks import examples, workloads
from scaling.config.section import plain
from scaling.config.training import Preference, Sft
from scaling.model.policy import load_policy
from scaling.training.batching import sequences


def main() -> None:
    folder, repeats, quick = Path(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "quick"
    policy = workloads.checkpoint(size, folder)
    pairs = examples.pairs(examples.num_rows(size, quick))
    train = {"sft": _sft, "dpo": _dpo}[work]
    seconds, numbers = [], {}
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as out:
            spent, numbers = train(policy, pairs, Path(out))
        seconds.append(spent)
    figures = {"rows": len(pairs) * examples.EPOCHS, "seconds": seconds[1:], "flops": numbers["training_flops"]}
    print(json.dumps(figures | {"loss": numbers["train/loss"]}))


def _sft(policy: Path, pairs: list[examples.Pair], out: Path) -> tuple[float, dict[str, float]]:
    settings = Sft(**_settings())
    start = time.perf_counter()
    rows = sequences([pair.prompt for pair in pairs], [pair.chosen for pair in pairs])
    numbers = sft.fit(load_policy(policy), rows, settings, share, out)
    return time.perf_counter() - start, numbers


def _dpo(policy: Path, pairs: list[examples.Pair], out: Path) -> tuple[float, dict[str, float]]:
    frame = pd.DataFrame(pairs).rename(columns={"prompt": "context"})
    frame.to_parquet(out / "pairs.parquet")
    config = {"dpo": plain(Preference(**_settings(), beta=examples.BETA)), "seed": share}
    start = time.perf_counter()
    numbers = dpo.run(config, {"reference": policy, "pairs": out}, out)
    return time.perf_counter() - start, numbers


def _settings() -> dict[str, float]:
    rates = {"learning_rate": examples.LEARNING_RATE[work], "epochs": examples.EPOCHS}
    return {**rates, "batch_size": examples.BATCH_SIZE[work]}


if __name__ == "__main__":
    main()
