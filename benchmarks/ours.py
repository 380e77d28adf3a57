"""Our side of sampling: `python -m benchmarks.ours WORK SIZE SHARE SHARES FOLDER REPEATS QUICK` prints JSON.

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
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[share % len(cores)]})

import jax
import numpy as np

from benchmarks import workloads
from scaling.model.flops import sampling_flops
from scaling.model.policy import load_policy
from scaling.model.sampling import row_keys, sample


def main() -> None:
    work, size, folder, repeats = sys.argv[1], sys.argv[2], Path(sys.argv[5]), int(sys.argv[6])
    policy = load_policy(workloads.checkpoint(size, folder))
    rows, limits, copies = workloads.work_rows(work, size, sys.argv[7])
    rows, limits = rows[share::shares], limits[share::shares]
    prompts = [row for row in rows for _ in range(copies)]
    ends = [limit for limit in limits for _ in range(copies)]
    keys = row_keys(jax.random.key(share), np.arange(len(prompts), dtype=np.uint32)[:, None])
    temperature = 0.0 if work == "greedy" else 1.0
    seconds, lengths = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        sampled = sample(policy.params, policy.config, prompts, keys, ends, temperature)
        seconds.append(time.perf_counter() - start)
        lengths = sampled.lengths.tolist()
    flops = sampling_flops(policy.config, map(len, prompts), lengths)
    print(json.dumps({"rows": len(prompts), "tokens": sum(lengths), "flops": flops, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
