"""What one core can do, and how much of it training and decoding use: `python benchmarks/peak.py FOLDER REPEATS`.

Prints JSON for size m (4.7M parameters): FLOPs a second of a large float32 matrix product, of training updates, and of
decoding steps at batch 256, on one core and thread. Decoding is timed alone, between two limits on new tokens, so that
prefill and dispatch fall out.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path[:0] = [os.fspath(Path(__file__).resolve().parents[1]), os.fspath(Path(__file__).resolve().parent)]

import jax
import jax.numpy as jnp
import numpy as np
import workloads

from algorithms import sft
from scaling.config import Sft
from scaling.model import sampling
from scaling.model.flops import sampling_flops
from scaling.model.policy import load_policy
from scaling.training.batching import sequences

SIZE, BATCH, PROMPT = "m", 256, 8
NEW = (8, 40)


def main() -> None:
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2])
    policy = load_policy(workloads.checkpoint(SIZE, folder))
    best = max(_numpy_peak(repeats), _jax_peak(repeats))
    found = {"matmul": best, "training": _training(policy, repeats), "decoding": _decoding(policy, repeats)}
    print(json.dumps({name: value / 1e9 for name, value in found.items()}))


def _fastest(work, repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _numpy_peak(repeats: int, n: int = 1536) -> float:
    a = np.ones((n, n), np.float32)
    return 2 * n**3 / _fastest(lambda: a @ a, repeats)


def _jax_peak(repeats: int, n: int = 1536) -> float:
    a, product = jnp.ones((n, n)), jax.jit(jnp.matmul)
    return 2 * n**3 / _fastest(lambda: product(a, a).block_until_ready(), repeats)


def _training(policy, repeats: int) -> float:
    """SFT from token lists to the saved policy, 128 sequences of 24 tokens, two epochs."""
    rng = np.random.default_rng(0)
    rows = sequences([rng.integers(7, 66, 6).tolist()] * 128, rng.integers(7, 66, (128, 18)).tolist())
    settings, flops = Sft(epochs=2, batch_size=64), 0.0

    def run() -> None:
        nonlocal flops
        with tempfile.TemporaryDirectory() as out:
            flops = sft.fit(policy, rows, settings, 0, Path(out))["training_flops"]

    return flops / seconds if (seconds := _fastest(run, repeats)) else 0.0


def _decoding(policy, repeats: int) -> float:
    prompts = np.full((BATCH, PROMPT), 9, np.int32)
    keys = sampling.row_keys(jax.random.key(0), np.arange(BATCH, dtype=np.uint32)[:, None])
    seconds = []
    for new in NEW:
        starts, limits, one = np.zeros(BATCH, np.int32), np.full(BATCH, new, np.int32), jnp.float32(1)

        def run(new=new, starts=starts, limits=limits, one=one) -> None:
            made = sampling._generate(
                policy.params, prompts, starts, None, keys, limits, one, one, policy.config, new, False, False
            )
            jax.block_until_ready(made)

        seconds.append(_fastest(run, repeats))
    at = [sampling_flops(policy.config, [PROMPT] * BATCH, [new] * BATCH) for new in NEW]
    return (at[1] - at[0]) / (seconds[1] - seconds[0])


if __name__ == "__main__":
    main()
