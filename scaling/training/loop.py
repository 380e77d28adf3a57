"""The training loop: batches in order, one compiled update, metrics, checkpoints.

In: initial params, rows of arrays, a loss and its settings. Out: trained params, and `metrics.jsonl` with one
object per logged update, names as in TRL (`train/loss`, `rewards/margins`).
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from scaling.config.policy import Lora
from scaling.config.training import Optimizer
from scaling.model.lora import init_adapters
from scaling.model.sharding import placed_params, placed_rows
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params
from scaling.training.batching import Schedule, micro_batches
from scaling.training.checkpoint import Checkpoints
from scaling.training.memory_settings import current_memory
from scaling.training.update import (
    Loss,
    OptimizerSettings,
    Sums,
    init_state,
    learning_rate_at,
    make_update,
)

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
NUM_LOGGED = 20  # metrics are averaged over windows, about this many in a run
_ADAPTERS = 0xADA  # folded into the seed's key: fresh adapters are drawn from it


def train(
    params: Params,
    config: ModelConfig,
    arrays: Mapping[str, np.ndarray],
    lengths: np.ndarray,
    loss: Loss,
    optimizer: Optimizer,
    seed: int,
    out: Path,
    constants: Mapping[str, float] = MappingProxyType({}),
    lora: Lora | None = None,
    estimate: Loss | None = None,
) -> tuple[Params, dict[str, float]]:
    """Train on all rows of `arrays` for the optimizer's epochs.

    arrays: [N, ...] each, the loss's batch, and lengths int [N], the tokens of each row; see `micro_batches`.
    constants: scalars that the loss reads from its batch; estimate: gives others, of each whole batch (`make_update`).
    Returns what was trained, the params or, with lora, adapters to the params given; and the metrics of the last window
    with `num_updates`.
    """
    trained: Params = params
    frozen: Params = {}
    if lora is not None:
        trained = init_adapters(params, lora, jax.random.fold_in(jax.random.key(seed), _ADAPTERS))
        frozen = params
    schedule = Schedule(len(lengths), optimizer.batch_size, optimizer.epochs, seed)
    return run_updates(
        trained,
        config,
        batch_at=lambda index: [
            batch for _, batch in micro_batches(arrays, schedule.rows(index), lengths, optimizer.batch_size)
        ],
        num_updates=schedule.num_updates,
        loss=loss,
        learning_rate=lambda index: learning_rate_at(
            optimizer.learning_rate, optimizer.warmup_fraction, optimizer.schedule, schedule.num_updates, index
        ),
        weight_decay=optimizer.weight_decay,
        max_gradient_norm=optimizer.max_gradient_norm,
        out=out,
        constants=constants,
        lora=lora,
        frozen=frozen,
        estimate=estimate,
    )


def run_updates(
    params: Params,
    config: ModelConfig,
    batch_at: Callable[[int], Iterable[Mapping[str, np.ndarray]]],
    num_updates: int,
    loss: Loss,
    learning_rate: Callable[[int], float],
    weight_decay: float,
    max_gradient_norm: float,
    out: Path,
    constants: Mapping[str, float] = MappingProxyType({}),
    checkpoint_seconds: float = 60.0,
    lora: Lora | None = None,
    frozen: Params = MappingProxyType({}),
    estimate: Loss | None = None,
) -> tuple[Params, dict[str, float]]:
    """Updates 0 to num_updates - 1 of the params, or from the checkpoint in `out` on.

    batch_at: the micro-batches of an update. With lora the params are adapters to the frozen ones.
    """
    update = make_update(config, loss, lora, current_memory().remat == "layers", estimate)
    checkpoints = Checkpoints(out, checkpoint_seconds, (METRICS_FILE,))
    state = checkpoints.restore(init_state(placed_params(params, config)))
    first = int(state.update_index)
    if first:
        logger.info("continuing at update %d of %d", first, num_updates)
    metrics_path = out / METRICS_FILE
    last = _drop_lines_after(metrics_path, first)
    shared = {name: np.float32(value) for name, value in constants.items()}
    window: list[Sums] = []
    log_every = max(1, num_updates // NUM_LOGGED)
    with metrics_path.open("a") as metrics_file:
        for index in range(first, num_updates):
            settings = OptimizerSettings(
                np.float32(learning_rate(index)), np.float32(weight_decay), np.float32(max_gradient_norm)
            )
            state, sums = update(state, map(placed_rows, batch_at(index)), shared, settings, frozen)
            window.append(sums)
            if (index + 1) % log_every == 0 or index + 1 == num_updates:
                last = _means(window, index + 1)
                metrics_file.write(json.dumps({"update": index + 1, **last}) + "\n")
                metrics_file.flush()
                window = []
                checkpoints.maybe_save(state, index + 1)
    checkpoints.close()
    return state.params, {"num_updates": float(num_updates), **last}


def _means(window: list[Sums], update_index: int) -> dict[str, float]:
    """Total over count for each metric of the window that ends at this update; raises when one is not finite."""
    fetched: list[Sums] = jax.device_get(window)
    means = {}
    for name in sorted(fetched[0], key=lambda name: name != "loss"):  # a broken loss is named before what it breaks
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


def _drop_lines_after(path: Path, update_index: int) -> dict[str, float]:
    """Cut the metrics behind the update that training continues from; returns those of the last line that is left."""
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
