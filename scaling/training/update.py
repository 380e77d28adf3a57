"""One optimiser update: gradients of summed losses, accumulated over micro-batches, then AdamW.

A loss is `loss(apply, params, batch) -> sums`, where sums maps a name to `Sum(total, count)` and "loss" is what is
minimised. Totals are added over the micro-batches and divided once, by the total count: the result does not depend
on how a batch is cut. Settings that change between stages (learning rate, beta) are arguments or entries of
the batch, never compiled in, so that all stages of one shape share one compiled update. A micro-batch is a call of
its own: micro-batches of one update may differ in shape, and each shape compiles once.

With `lora`, what is trained are adapters, and the params that they add to are `frozen`: read, never copied, without
gradients and optimizer state.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from scaling.config.on_policy import OnPolicy
from scaling.config.policy import Lora
from scaling.config.training import Optimizer, Pretrain
from scaling.model.lora import joined
from scaling.model.sharding import constrained_params, platform
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params, architecture
from scaling.training.logps import packed_apply


@struct.dataclass
class Sum:
    """A masked total and how many terms it has; only the loop divides."""

    total: jax.Array  # float32 []
    count: jax.Array  # float32 []


Sums = Mapping[str, Sum]
Apply = Callable[..., Any]  # (params, tokens) -> logits, or `Unprojected`: give them to `token_logps`
Loss = Callable[[Apply, Params, Mapping[str, jax.Array]], Sums]


@dataclass(frozen=True)
class Objective:
    """What training minimises."""

    loss: Loss
    constants: Mapping[str, float] = field(default_factory=dict)  # scalars that the loss reads from its batch
    estimate: Loss | None = None  # gives other scalars, of each whole batch, without a gradient (`make_update`)
    # Sequences may share rows: losses give apply all of batch["tokens"] at once, in their order, and only `token_logps`
    # or `completion_logps` reads what it returns.
    packs: bool = False


@struct.dataclass
class TrainState:
    """What an update changes."""

    params: Params  # all of a policy's, or its adapters
    optimizer_state: optax.OptState
    update_index: jax.Array  # int32 []


class OptimizerSettings(NamedTuple):
    """Scalars of AdamW, traced in the update."""

    learning_rate: float | np.float32 | jax.Array
    weight_decay: float | np.float32 | jax.Array
    max_gradient_norm: float | np.float32 | jax.Array


# By default XLA's CPU schedule starts what it can as early as it can, so that every layer is computed again before the
# first gradient needs one of them, and nothing is saved.
_CPU_MEMORY_FIRST = MappingProxyType({"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"})
# b2 = 0.95 as in most language-model training; the direction only, the learning rate is applied in the update.
_direction = optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-8)


def init_state(params: Params) -> TrainState:
    """The state before the first update. The params are copied: an update donates its input."""
    params = jax.tree.map(jnp.array, params)
    return TrainState(params, _direction.init(params), jnp.int32(0))


@cache
def make_update(
    config: ModelConfig,
    loss: Loss,
    lora: Lora | None = None,
    remat: bool = False,
    estimate: Loss | None = None,
) -> Callable[..., tuple[TrainState, Sums]]:
    """The `update(state, micro_batches, constants, settings, frozen) -> (state, sums)` of one shape and loss.

    micro_batches: at least one, each a mapping of arrays [B, ...]; constants: arrays that every row shares; frozen: the
    params that adapters add to, empty without. remat: compute each layer again for its gradient, for less memory.
    estimate: gives sums over the whole batch, whose means the loss reads beside the constants, without a gradient.
    """
    accumulate = make_accumulate(config, loss, lora, remat)
    summed = _make_summed(config, estimate, lora) if estimate is not None else None

    def update(
        state: TrainState,
        micro_batches: Iterable[Mapping[str, np.ndarray]],
        constants: Mapping[str, jax.Array],
        settings: OptimizerSettings,
        frozen: Params = MappingProxyType({}),
    ) -> tuple[TrainState, Sums]:
        gradients: Params = _zeros(state.params, config)
        sums: Sums | None = None
        if summed is not None:
            micro_batches = list(micro_batches)
            found = [summed(state.params, dict(frozen), dict(batch), constants) for batch in micro_batches]
            constants = {**constants, **_divided(reduce(_add, found))}
        for batch in micro_batches:
            gradients, more = accumulate(gradients, state.params, dict(frozen), dict(batch), constants)
            sums = more if sums is None else _add(sums, more)
        if sums is None:
            raise ValueError("an update has no micro-batches; give at least one.")
        stepped: tuple[TrainState, Sums] = _step(state, gradients, sums, OptimizerSettings(*map(np.float32, settings)))
        return stepped

    return update


@cache
def make_accumulate(
    config: ModelConfig, loss: Loss, lora: Lora | None, remat: bool
) -> Callable[..., tuple[Params, Sums]]:
    """The compiled `accumulate(gradients, params, frozen, batch, constants) -> (gradients, sums)` of a micro-batch."""
    apply = partial(architecture(config, lora).predict, remat=remat)
    on_cpu = remat and platform() == "cpu"

    @partial(jax.jit, donate_argnums=0, compiler_options=dict(_CPU_MEMORY_FIRST) if on_cpu else None)
    def accumulate(
        gradients: Params,
        params: Params,
        frozen: Params,
        batch: Mapping[str, Any],
        constants: Mapping[str, jax.Array],
    ) -> tuple[Params, Sums]:
        def objective(params: Params) -> tuple[jax.Array, Sums]:
            sums = loss(packed_apply(apply, batch.get("packed")), joined(frozen, params), {**batch, **constants})
            return sums["loss"].total, sums

        added, sums = jax.grad(objective, has_aux=True)(params)
        return constrained_params(jax.tree.map(jnp.add, gradients, added), config), sums

    return accumulate


@cache
def _make_summed(config: ModelConfig, estimate: Loss, lora: Lora | None) -> Callable[..., Sums]:
    """The compiled `summed(params, frozen, batch, constants) -> sums` of a micro-batch, without gradients."""
    apply = architecture(config, lora).predict

    @jax.jit
    def summed(params: Params, frozen: Params, batch: Mapping[str, Any], constants: Mapping[str, jax.Array]) -> Sums:
        return estimate(packed_apply(apply, batch.get("packed")), joined(frozen, params), {**batch, **constants})

    return summed


@jax.jit
def _divided(sums: Sums) -> dict[str, jax.Array]:
    return {name: entry.total / jnp.maximum(entry.count, 1.0) for name, entry in sums.items()}


@partial(jax.jit, static_argnames="config")
def _zeros(params: Params, config: ModelConfig) -> Params:
    zeros: Params = jax.tree.map(jnp.zeros_like, params)
    return constrained_params(zeros, config)


@jax.jit
def _add(sums: Sums, more: Sums) -> Sums:
    added: Sums = jax.tree.map(jnp.add, sums, more)
    return added


@partial(jax.jit, donate_argnums=0)
def _step(state: TrainState, gradients: Params, sums: Sums, settings: OptimizerSettings) -> tuple[TrainState, Sums]:
    """Divide by the count, clip to the largest norm, and move the params by AdamW."""
    count = jnp.maximum(sums["loss"].count, 1.0)
    gradients = jax.tree.map(lambda leaf: leaf / count, gradients)
    norm = optax.tree.norm(gradients)
    scale = jnp.minimum(1.0, settings.max_gradient_norm / jnp.maximum(norm, 1e-12))
    gradients = jax.tree.map(lambda leaf: leaf * scale, gradients)
    directions, optimizer_state = _direction.update(gradients, state.optimizer_state, state.params)
    params = jax.tree.map(
        lambda leaf, direction: leaf - settings.learning_rate * (direction + settings.weight_decay * leaf),
        state.params,
        directions,
    )
    sums = {**sums, "gradient_norm": Sum(norm, jnp.float32(1.0))}
    return TrainState(params, optimizer_state, state.update_index + 1), sums


def settings_at(optimizer: Optimizer | OnPolicy | Pretrain, num_updates: int, update_index: int) -> OptimizerSettings:
    """The scalars of an update of a training run."""
    peak, warmup_fraction, schedule = optimizer.learning_rate, optimizer.warmup_fraction, optimizer.schedule
    learning_rate = learning_rate_at(peak, warmup_fraction, schedule, num_updates, update_index)
    return OptimizerSettings(learning_rate, optimizer.weight_decay, optimizer.max_gradient_norm)


def learning_rate_at(peak: float, warmup_fraction: float, schedule: str, num_updates: int, update_index: int) -> float:
    """Linear warm-up from peak / warm-up updates, then a cosine to 10 % of the peak, or a constant."""
    warmup = max(1, round(warmup_fraction * num_updates))
    rising = min(1.0, (update_index + 1) / warmup)
    if schedule == "constant":
        return peak * rising
    # As optax.cosine_decay_schedule, which would run ten small jax programs here for every update.
    done = min(1.0, max(0, update_index + 1 - warmup) / max(1, num_updates - warmup))
    return rising * peak * (0.9 * 0.5 * (1 + math.cos(math.pi * done)) + 0.1)
