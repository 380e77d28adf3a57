"""How sampling and training grow with their sizes: `python benchmarks/growth.py FOLDER REPEATS` prints JSON.

One worker on one core. Sampling: rows, completions a prompt, new tokens, policy size. Training: tokens of a sequence,
policy size. Every other dial stays at rows 256, one completion, 24 new tokens, size xs.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path[:0] = [os.fspath(Path(__file__).resolve().parents[1]), os.fspath(Path(__file__).resolve().parent)]

import jax
import numpy as np
import workloads

from algorithms import sft
from scaling.config import Sft
from scaling.model.policy import load_policy
from scaling.model.sampling import row_keys, sample
from scaling.training.batching import sequences


def main() -> None:
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    rows = []
    for count in (16, 64, 256, 1024, 4096):
        rows.append(("sampling", "rows", count, _sampling(folder, repeats, rows=count)))
    for copies in (1, 4, 16, 64):
        rows.append(("sampling", "completions a prompt", copies, _sampling(folder, repeats, rows=512, copies=copies)))
    for new in (8, 24, 72, 216):
        rows.append(("sampling", "new tokens", new, _sampling(folder, repeats, new=new)))
    for length in (16, 32, 64, 128, 256):
        rows.append(("training", "tokens of a sequence", length, _training(folder, repeats, length=length)))
    for size in workloads.SIZES:
        parameters = load_policy(workloads.checkpoint(size, folder)).config.num_params
        rows.append(("sampling", "parameters", parameters, _sampling(folder, repeats, size=size, rows=128)))
        rows.append(("training", "parameters", parameters, _training(folder, repeats, size=size)))
    names = ("work", "dial", "value", "tokens_a_second")
    print(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))


def _sampling(folder: Path, repeats: int, size: str = "xs", rows: int = 256, copies: int = 1, new: int = 24) -> float:
    """Sampled tokens a second; completions run to their limit."""
    policy = load_policy(workloads.checkpoint(size, folder))
    # A row of random tokens behind a random prompt: a policy that has never seen such rarely stops by itself.
    rng = np.random.default_rng(0)
    prompts = [rng.integers(7, 66, 8).tolist() for _ in range(max(1, rows // copies)) for _ in range(copies)]
    keys = row_keys(jax.random.key(0), np.arange(len(prompts), dtype=np.uint32)[:, None])
    best = 0.0
    for attempt in range(repeats + 1):
        start = time.perf_counter()
        sampled = sample(policy.params, policy.config, prompts, keys, [new] * len(prompts), 2.0)
        if attempt:
            best = max(best, float(sampled.lengths.sum()) / (time.perf_counter() - start))
    return best


def _training(folder: Path, repeats: int, size: str = "xs", length: int = 32) -> float:
    """Trained tokens a second, 64 rows an update, from token lists to the saved policy."""
    policy = load_policy(workloads.checkpoint(size, folder))
    rng = np.random.default_rng(0)
    tokens = rng.integers(7, 66, (256, length))
    best = 0.0
    for attempt in range(repeats + 1):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            rows = sequences(tokens[:, :4].tolist(), tokens[:, 4:].tolist())
            sft.fit(policy, rows, Sft(epochs=2, batch_size=64), 0, Path(out))
            if attempt:
                best = max(best, 2 * tokens.size / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
