"""What one core can do: `python -m benchmarks.peak LIBRARY SHARE REPEATS` prints JSON.

The time of a large float32 matmul. LIBRARY is numpy, jax or torch, with one thread.
"""

import json
import os
import sys
import time

library, share, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[share % len(cores)]})
os.environ |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "NPROC": "1"}
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

SIZE, PRODUCTS = 2048, 8


def main() -> None:
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        matrix = torch.randn(SIZE, SIZE)
        product = lambda: matrix @ matrix  # noqa: E731
    elif library == "jax":
        import jax

        matrix = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
        compiled = jax.jit(lambda matrix: matrix @ matrix)
        product = lambda: compiled(matrix).block_until_ready()  # noqa: E731
    else:
        import numpy

        matrix = numpy.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(numpy.float32)
        product = lambda: matrix @ matrix  # noqa: E731
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            product()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"flops": PRODUCTS * 2.0 * SIZE**3, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
