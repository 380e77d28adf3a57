"""Several seeds in one program with `vmap`, against one after another: `python -m benchmarks.packing`.

Gradients of SFT's loss on one micro-batch, one thread. Writes results/packing.json. A sweep does not pack: on CPU it
wins nothing (docs/performance.md); on an accelerator, whose programs are too small for it, it should be measured again.
"""

import json
import os
import statistics
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["NPROC"] = "1"

from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.sft import nll
from benchmarks import examples, sides, workloads
from scaling.model.policy import load_policy
from scaling.model.transformer import architecture
from scaling.training.batching import micro_batches, sequences

SEEDS = (2, 4, 8)
REPEATS, CALLS = 9, 20


def main() -> None:
    rows = [ratio(size, seeds) for size in ("xs", "s") for seeds in SEEDS]
    document = {
        "command": "python -m benchmarks.packing",
        "machine": {**sides.machine(), "backend": jax.default_backend(), "jax": metadata.version("jax")},
        "rows": rows,
    }
    (sides.RESULTS / "packing.json").write_text(json.dumps(document, indent=1) + "\n")


def ratio(size: str, seeds: int) -> dict[str, object]:
    """Time of the policies one after another over that of all in one program, both compiled and warm."""
    policy = load_policy(workloads.checkpoint(size, sides.CHECKPOINTS))
    pairs = examples.pairs(examples.BATCH_SIZE["sft"])
    made = sequences([pair.prompt for pair in pairs], [pair.chosen for pair in pairs])
    arrays = {"tokens": made.tokens, "mask": made.mask}
    batch = next(batch for _, batch in micro_batches(arrays, np.arange(len(pairs)), made.lengths, len(pairs)))
    apply = architecture(policy.config).apply

    def gradients(params, batch):
        return jax.grad(lambda params: nll(apply, params, batch)["loss"].total)(params)

    one, all_at_once = jax.jit(gradients), jax.jit(jax.vmap(gradients))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), policy.params)
    batches = {name: np.stack([values] * seeds) for name, values in batch.items()}
    ratios = []
    for _ in range(REPEATS + 1):
        apart = _seconds(lambda: one(policy.params, batch), CALLS * seeds)
        ratios.append(apart / _seconds(lambda: all_at_once(stacked, batches), CALLS))
    found = {"size": size, "seeds": seeds, "tokens": int(batch["tokens"].size), "ratio": statistics.median(ratios[1:])}
    print(f"{size:3} {seeds} seeds in one program: {found['ratio']:.2f}x", flush=True)
    return found


def _seconds(call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        done = call()
    jax.block_until_ready(done)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
