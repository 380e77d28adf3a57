"""The on-policy loop: sample from the policy, update it on the samples, and again.

In: the start policy, how the samples of an iteration are drawn, and how they become the batches of its updates. Out:
trained params, `metrics.jsonl` with one object per iteration, and `samples.parquet`, the samples of the last one.

A checkpoint is due after the samples of an iteration are drawn and after its last update. The samples go with it, so
they are not drawn again, and a killed stage ends with the files of an unbroken one.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from scaling.config.on_policy import OnPolicy
from scaling.config.policy import Lora
from scaling.model.lora import merged
from scaling.model.policy import Policy
from scaling.model.sharding import placed_params, placed_rows
from scaling.model.transformer import Params
from scaling.training.checkpoint import Checkpoints
from scaling.training.loop import METRICS_FILE, drop_lines_after, fresh_params, means_of
from scaling.training.memory_settings import current_memory
from scaling.training.snapshots import Snapshots, evenly
from scaling.training.update import Objective, init_state, make_update, settings_at

logger = logging.getLogger(__name__)

SAMPLES_FILE = "samples.parquet"
Batch = Iterable[Mapping[str, np.ndarray | jax.Array]]  # the micro-batches of one update


def run_iterations(
    start: Policy,
    settings: OnPolicy,
    sample: Callable[[Params, int], pd.DataFrame],
    batches: Callable[[Params, pd.DataFrame], Sequence[Batch]],
    numbers: Callable[[pd.DataFrame], Mapping[str, float]],
    objective: Objective,
    seed: int,
    out: Path,
    lora: Lora | None,
    num_snapshots: int,
) -> tuple[Params, list[dict[str, float]]]:
    """Make all iterations, or those after the checkpoint in `out`. Returns trained params and the metrics' lines.

    sample: (params, iteration) -> its samples; batches: (params that sampled, samples) -> one for each update; both get
    plain params: adapters are merged. numbers: what an iteration's line in the metrics says about the samples.
    num_snapshots: policies to keep after iterations, the last one among them. The result is params or, with lora,
    adapters to the start policy's params.
    """
    num_updates, config = settings.updates_per_iteration, start.config  # of each iteration
    params, frozen = fresh_params(start, lora, seed)
    kept = frozenset(num_updates * index for index in evenly(num_snapshots, settings.iterations))
    snapshots = Snapshots(start, lora, out, kept)
    update = make_update(config, objective.loss, lora, current_memory().remat == "layers", objective.estimate)
    shared = {name: np.float32(value) for name, value in objective.constants.items()}
    checkpoints = Checkpoints(out, files=(METRICS_FILE, SAMPLES_FILE))
    fresh = init_state(placed_params(params, config))
    state = checkpoints.restore(fresh)
    if state is fresh:
        (out / SAMPLES_FILE).unlink(missing_ok=True)  # of an attempt without a checkpoint
    first, moments = int(state.update_index) // num_updates, num_updates + 1
    drop_lines_after(out / METRICS_FILE, first * num_updates)
    seconds = {"sampling": 0.0, "learning": 0.0}
    for index in range(first, settings.iterations):
        started = time.perf_counter()
        policy = state.params if lora is None else merged(frozen, state.params, lora)
        samples = _kept(out, index) if index == first else None
        if samples is None:
            sample(policy, index).assign(iteration=index).to_parquet(out / SAMPLES_FILE)
            samples = pd.read_parquet(out / SAMPLES_FILE)  # as after an interruption
            checkpoints.maybe_save(state, moments * index + 1)
        sampled = time.perf_counter()
        window = []
        for at, batch in enumerate(batches(policy, samples), start=index * num_updates):
            scalars = settings_at(settings, settings.iterations * num_updates, at)
            state, sums = update(state, map(placed_rows, batch), shared, scalars, frozen)
            window.append(sums)
        made = (index + 1) * num_updates
        line = {"update": made, "iteration": index + 1, **numbers(samples), **means_of(window, made)}
        with (out / METRICS_FILE).open("a") as metrics_file:
            metrics_file.write(json.dumps(line) + "\n")
        snapshots.maybe_save(state.params, made)
        checkpoints.maybe_save(state, moments * (index + 1))
        seconds["sampling"] += sampled - started
        seconds["learning"] += time.perf_counter() - sampled
    checkpoints.close()
    snapshots.finish()
    logger.info("sampling took %.1f s, learning %.1f s", seconds["sampling"], seconds["learning"])
    return state.params, [json.loads(line) for line in (out / METRICS_FILE).read_text().splitlines()]


def _kept(out: Path, iteration: int) -> pd.DataFrame | None:
    """The samples of this iteration, if a checkpoint brought them back."""
    path = out / SAMPLES_FILE
    if not path.exists():
        return None
    samples = pd.read_parquet(path)
    return samples if samples["iteration"].iloc[0] == iteration else None
