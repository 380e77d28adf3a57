"""The training loop: batches in order, one compiled update, metrics, checkpoints.

In: initial params, rows of arrays, a loss and its settings. Out: trained params, and `metrics.jsonl` with one
object per logged update, names as in TRL (`train/loss`, `rewards/margins`).
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from scaling.config.policy import Lora
from scaling.config.training import Optimizer
from scaling.model.lora import init_adapters
from scaling.model.policy import Policy
from scaling.model.sharding import placed_params, placed_rows
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params
from scaling.training.batching import Schedule, cutter
from scaling.training.checkpoint import Checkpoints
from scaling.training.memory_settings import current_memory
from scaling.training.snapshots import Snapshots, evenly
from scaling.training.update import Objective, OptimizerSettings, Sums, init_state, make_update, settings_at

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
NUM_LOGGED = 20  # metrics are averaged over windows, about this many in a run
_ADAPTERS = 0xADA  # folded into the seed's key: fresh adapters are drawn from it


@dataclass(frozen=True)
class Updates:
    """The updates of a training run, by their index."""

    num: int
    batch_at: Callable[[int], Iterable[Mapping[str, np.ndarray]]]  # the micro-batches of an update
    settings_at: Callable[[int], OptimizerSettings]
    snapshots: Snapshots | None = None


def train(
    start: Policy,
    arrays: Mapping[str, np.ndarray],
    lengths: np.ndarray,
    objective: Objective,
    optimizer: Optimizer,
    seed: int,
    out: Path,
    lora: Lora | None = None,
    num_snapshots: int = 0,
) -> tuple[Params, dict[str, float]]:
    """Train on all rows of `arrays` for the optimizer's epochs.

    arrays: [N, ...] each, the batch of the loss, and lengths int [N] or [N, S], the tokens of each row or of each of
    its sequences; see `micro_batches`.
    num_snapshots: policies to keep on the way, the last one among them. Returns the trained params or, with lora,
    adapters to the start policy's params; and the metrics of the last window with `num_updates`.
    """
    trained, frozen = fresh_params(start, lora, seed)
    schedule = Schedule(len(lengths), optimizer.batch_size, optimizer.epochs, seed)
    rows_of_updates = map(schedule.rows, range(schedule.num_updates))
    cut = cutter(arrays, rows_of_updates, lengths, optimizer.batch_size, start.config, objective.packs)
    updates = Updates(
        schedule.num_updates,
        batch_at=lambda index: [batch for _, batch in cut(schedule.rows(index))],
        settings_at=partial(settings_at, optimizer, schedule.num_updates),
        snapshots=Snapshots(start, lora, out, evenly(num_snapshots, schedule.num_updates)),
    )
    return run_updates(trained, start.config, updates, objective, out, lora=lora, frozen=frozen)


def fresh_params(start: Policy, lora: Lora | None, seed: int) -> tuple[Params, Params]:
    """What is trained, before the first update, and the frozen params that it adds to; empty without adapters."""
    if lora is None:
        return start.params, {}
    return init_adapters(start.params, lora, jax.random.fold_in(jax.random.key(seed), _ADAPTERS)), start.params


def run_updates(
    params: Params,
    config: ModelConfig,
    updates: Updates,
    objective: Objective,
    out: Path,
    checkpoint_seconds: float = 60.0,
    lora: Lora | None = None,
    frozen: Params = MappingProxyType({}),
) -> tuple[Params, dict[str, float]]:
    """Make all updates of the params, or those after the checkpoint in `out`.

    With lora the params are adapters to the frozen ones.
    """
    update = make_update(config, objective.loss, lora, current_memory().remat == "layers", objective.estimate)
    checkpoints = Checkpoints(out, checkpoint_seconds, (METRICS_FILE,))
    state = checkpoints.restore(init_state(placed_params(params, config)))
    first = int(state.update_index)
    if first:
        logger.info("continuing at update %d of %d", first, updates.num)
    metrics_path = out / METRICS_FILE
    last = drop_lines_after(metrics_path, first)
    shared = {name: np.float32(value) for name, value in objective.constants.items()}
    window: list[Sums] = []
    log_every = max(1, updates.num // NUM_LOGGED)
    with metrics_path.open("a") as metrics_file:
        for index in range(first, updates.num):
            batches, settings = map(placed_rows, updates.batch_at(index)), updates.settings_at(index)
            state, sums = update(state, batches, shared, settings, frozen)
            window.append(sums)
            if updates.snapshots is not None:
                updates.snapshots.maybe_save(state.params, index + 1)
            if (index + 1) % log_every == 0 or index + 1 == updates.num:
                last = means_of(window, index + 1)
                metrics_file.write(json.dumps({"update": index + 1, **last}) + "\n")
                metrics_file.flush()
                window = []
                checkpoints.maybe_save(state, index + 1)
    checkpoints.close()
    if updates.snapshots is not None:
        updates.snapshots.finish()
    return state.params, {"num_updates": float(updates.num), **last}


def means_of(window: list[Sums], update_index: int) -> dict[str, float]:
    """Total over count for each metric of the window that ends at this update; raises when one is not finite."""
    fetched: list[Sums] = jax.device_get(window)
    means = {}
    for name in sorted(fetched[0], key=lambda name: name != "loss"):  # a broken loss comes first: it breaks the others
        metric = name if "/" in name else f"train/{name}"
        sums = [entry[name] for entry in fetched]
        mean = float(sum(s.total for s in sums)) / max(float(sum(s.count for s in sums)), 1.0)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"{metric} is {mean} in updates {update_index - len(window) + 1} to {update_index}; lower the learning"
                f" rate, or look at the metrics before it in {METRICS_FILE}."
            )
        means[metric] = mean
    return means


def drop_lines_after(path: Path, update_index: int) -> dict[str, float]:
    """Cut the metrics after the update that training continues from; returns those of the last line that is left."""
    if not path.exists():
        return {}
    last: dict[str, float] = {}
    kept_bytes = 0
    with path.open("r+b") as metrics_file:
        for line in metrics_file:
            if not line.endswith(b"\n"):  # cut by a kill: a checkpoint is saved after its line is on disk
                break
            metrics = json.loads(line)
            if metrics.pop("update") > update_index:
                break
            last, kept_bytes = metrics, kept_bytes + len(line)
        metrics_file.truncate(kept_bytes)
    return last
