"""Our side of the benchmark: `python benchmarks/ours.py WORK SIZE SHARE SHARES FOLDER REPEATS` prints JSON.

One process is one worker: one thread, its share of the rows. Start-up and compilation are outside of the clock, as a
long-lived worker pays them once.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"
share, shares = int(sys.argv[3]), int(sys.argv[4])
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[share % 2]})
sys.path[:0] = [os.fspath(Path(__file__).resolve().parents[1]), os.fspath(Path(__file__).resolve().parent)]

import jax
import numpy as np
import workloads

from scaling.model.policy import load_policy
from scaling.model.sampling import row_keys, sample


def main() -> None:
    work, size, folder, repeats = sys.argv[1], sys.argv[2], Path(sys.argv[5]), int(sys.argv[6])
    policy = load_policy(workloads.checkpoint(size, folder))
    if work == "step_values":
        rows, limits = workloads.prefixes()
        copies = 8
    else:
        rows = workloads.prompts(ragged=work == "sampling_1")
        limits = [workloads.LIMIT] * len(rows)
        copies = 16 if work == "sampling_16" else 2 if work == "greedy" else 1
    if work == "greedy":  # 1,024 different problems
        rows, limits, copies = workloads.prompts(count=1024), [workloads.LIMIT] * 1024, 1
    rows, limits = rows[share::shares], limits[share::shares]
    prompts = [row for row in rows for _ in range(copies)]
    ends = [limit for limit in limits for _ in range(copies)]
    keys = row_keys(jax.random.key(share), np.arange(len(prompts), dtype=np.uint32)[:, None])
    temperature = 0.0 if work == "greedy" else 1.0
    seconds, tokens = [], 0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        sampled = sample(policy.params, policy.config, prompts, keys, ends, temperature)
        seconds.append(time.perf_counter() - start)
        tokens = int(sampled.lengths.sum())
    print(json.dumps({"rows": len(prompts), "tokens": tokens, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
