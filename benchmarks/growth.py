"""How our rates grow: `python -m benchmarks.growth`, some minutes on one core. Writes results/growth.json.

Sampling with the number of prompts, completions a prompt, tokens a completion and parameters; training with the number
of sequences, their length and parameters. One worker of one thread; one thing varies at a time around 64 prompts,
4 completions each, 24 tokens, size xs. Policies have random weights, so that completions run to their limit.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import numpy as np

from algorithms.sft import fit
from benchmarks import sides, workloads
from scaling.config.training import Sft
from scaling.model.policy import Policy
from scaling.model.sampling import row_keys, sample
from scaling.model.sizes import model_config
from scaling.model.transformer import architecture
from scaling.training.batching import sequences

SAMPLING = {
    "prompts": (16, 64, 256, 1024),
    "completions a prompt": (1, 4, 16, 64),
    "tokens a completion": (8, 24, 48, 96),
    "size": ("xxs", "xs", "s", "m"),
}
TRAINING = {"sequences": (32, 128, 512), "tokens a sequence": (16, 32, 64, 128), "size": ("xxs", "xs", "s", "m")}
USUAL = {"prompts": 64, "completions a prompt": 4, "tokens a completion": 24, "size": "xs"}
USUAL |= {"sequences": 128, "tokens a sequence": 32}
BATCH_SIZE = 32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=sides.RESULTS)
    parser.add_argument("--quick", action="store_true", help="the two smallest values of each thing, one repeat")
    given = parser.parse_args(argv)
    points = []
    for work, axes, measure in (("sampling", SAMPLING, _sampling), ("training", TRAINING, _training)):
        for axis, values in axes.items():
            for value in values[:2] if given.quick else values:
                points.append({"work": work, "axis": axis, **_point(measure, axis, value, 1 if given.quick else 3)})
                print(f"{work:9} {axis:22} {value!s:>5} {points[-1]['rate']:9.0f}/s", flush=True)
    machine = {"platform": platform.platform(), "cores": os.cpu_count()}
    versions = {"python": platform.python_version(), "jax": metadata.version("jax")}
    document = {"machine": machine, "versions": versions, "command": "python -m benchmarks.growth", "points": points}
    (given.out / "growth.json").write_text(json.dumps(document, indent=1) + "\n")


def _point(measure: Callable, axis: str, value: int | str, repeats: int) -> dict[str, float | str]:
    """Completions or sequences a second, median over the repeats after one for compilation."""
    settings = USUAL | {axis: value}
    config = model_config(settings["size"], workloads.VOCABULARY)
    policy = Policy(architecture(config).init(jax.random.key(0)), config)
    runs = [measure(policy, settings) for _ in range(repeats + 1)][1:]
    rate = runs[0][0] / statistics.median(seconds for _, seconds in runs)
    return {"value": value, "num_params": config.num_params, "rate": rate}


def _sampling(policy: Policy, settings: dict) -> tuple[int, float]:
    copies, limit = settings["completions a prompt"], settings["tokens a completion"]
    prompts = [prompt for prompt in workloads.prompts(count=settings["prompts"]) for _ in range(copies)]
    keys = row_keys(jax.random.key(0), np.arange(len(prompts), dtype=np.uint32)[:, None])
    start = time.perf_counter()
    sample(policy.params, policy.config, prompts, keys, [limit] * len(prompts), 1.0)
    return len(prompts), time.perf_counter() - start


def _training(policy: Policy, settings: dict) -> tuple[int, float]:
    count, length = settings["sequences"], settings["tokens a sequence"]
    tokens = np.random.default_rng(0).integers(7, workloads.VOCABULARY, (count, length)).tolist()
    rows = sequences([row[:6] for row in tokens], [row[6:] for row in tokens])
    optimizer = Sft(epochs=1, batch_size=BATCH_SIZE)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        fit(policy, rows, optimizer, 0, Path(out))
        return count, time.perf_counter() - start


if __name__ == "__main__":
    main()
