"""Compile a call of a plan without arrays, for devices that need not be here.

In: a `Program`, and the name of a TPU slice such as v5e:4x4, whose compiler comes with the extra `tpu`. Out:
`Compiled`, what the call takes of a device's memory by XLA's own account. Nothing runs. Losses are the negative
log-likelihood, on pairs DPO's, and GRPO's where whole logits are read; those of other algorithms differ in small arrays
only.

For a slice the process needs the variables of `scaling.compile.ENVIRONMENT` before it imports jax.
"""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from algorithms.dpo import preference_loss
from algorithms.group_pg import loss_of
from algorithms.sft import nll
from scaling.model.layout import AXES
from scaling.model.lora import init_adapters
from scaling.model.policy import flat, nested
from scaling.model.sampling import chunk_call
from scaling.model.sharding import param_spec, row_spec
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.pricing.programs import Program
from scaling.training.logps import make_forward
from scaling.training.update import make_accumulate

Shape = jax.ShapeDtypeStruct
_PER_TOKEN: tuple[tuple[str, Any], ...] = (("tokens", np.int32), ("mask", np.float32))
_USED = re.compile(r"Used ([\d.]+)([KMG]) of [\d.]+[KMG] hbm")
_UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of a call on one device."""

    arguments: float  # bytes, results that do not reuse them included
    temporary: float  # bytes
    seconds: float  # of tracing and compiling
    refused: float | None = None  # bytes that it would use, of a call that the compiler refuses for its memory


def num_devices(topology: str) -> int:
    """Of a slice. Raises ValueError for a name that the compiler does not know."""
    return len(_devices(topology))


def compile_for(program: Program, topology: str) -> Compiled:
    """Compile a call for a slice. Raises ValueError if the program's mesh has another number of devices."""
    devices, wanted = _devices(topology), math.prod(program.mesh)
    if len(devices) != wanted:
        sizes = " x ".join(f"{name} {size}" for name, size in zip(AXES, program.mesh, strict=True))
        raise ValueError(f"{topology} has {len(devices)} devices, the mesh {sizes} {wanted}; make both the same.")
    mesh = Mesh(np.array(devices).reshape(program.mesh), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    started = time.monotonic()
    try:
        with jax.set_mesh(mesh):
            analysis: Any = lowered(program).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if (used := _USED.search(str(error))) is None:
            raise
        return Compiled(0.0, 0.0, time.monotonic() - started, refused=float(used[1]) * _UNITS[used[2]])
    arguments = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Compiled(float(arguments), float(analysis.temp_size_in_bytes), time.monotonic() - started)


def lowered(program: Program) -> jax.stages.Lowered:
    """The call on the ambient mesh, as XLA gets it."""
    call, arguments = _call(program)
    found: jax.stages.Lowered = call.lower(*arguments)
    return found


def _call(program: Program) -> tuple[Any, tuple[Any, ...]]:
    """A compiled function and the shapes of its arguments."""
    shape, rows = program.shape, program.rows
    params = abstract_params(shape)
    if program.work == "sampling":
        return chunk_call(params, shape, rows, program.prompts, program.length, program.new_tokens)
    batch = _batch(program)
    if program.work == "scoring":
        return make_forward(shape), (params, batch["tokens"], batch["mask"], batch.get("packed"))
    frozen: Mapping[str, Any] = {}
    if (lora := program.lora) is not None:
        adapters = jax.eval_shape(lambda: init_adapters(_init(shape), lora, jax.random.key(0)))
        params, frozen = _placed(adapters, shape), params
    scalar = Shape((), np.float32)
    if program.whole_logits:
        batch |= {name: abstract_rows(len(batch["tokens"])) for name in ("advantage", "token_weight")}
        constants = dict.fromkeys(("epsilon", "epsilon_high", "kl_weight", "temperature"), scalar)
        accumulate = make_accumulate(shape, loss_of("grpo"), program.lora, program.remat)
        return accumulate, (params, params, frozen, batch, constants)
    if program.work != "training on pairs":
        return make_accumulate(shape, nll, program.lora, program.remat), (params, params, frozen, batch, {})
    batch["ref_logps"], constants = abstract_rows(len(batch["tokens"]), 2), {"beta": scalar, "nll_weight": scalar}
    accumulate = make_accumulate(shape, preference_loss, program.lora, program.remat)
    return accumulate, (params, params, frozen, batch, constants)


def _batch(program: Program) -> dict[str, Any]:
    """The shapes of a micro-batch: tokens and mask [B, T], or of pairs [B, 2, T], weight [B], and the packed rows."""
    rows, length = program.rows, program.length
    sequences, tokens = (program.batch, program.longest_sequence) if program.longest_sequence else (rows, length)
    pair = (2,) if program.work == "training on pairs" else ()
    members = sequences // program.sequences
    batch: dict[str, Any] = {name: abstract_rows(members, *pair, tokens, dtype=dtype) for name, dtype in _PER_TOKEN}
    batch["weight"] = abstract_rows(members)
    if program.longest_sequence:
        packed = {name: abstract_rows(rows, length, dtype=np.int32) for name in ("tokens", "begins")}
        batch["packed"] = {**packed, "starts": abstract_rows(sequences, dtype=np.int32)}
    return batch


def abstract_params(config: ModelConfig) -> dict[str, Any]:
    """The shapes of a decoder's params, where the table of scaling.model.layout puts them on the ambient mesh."""
    return _placed(jax.eval_shape(lambda: _init(config)), config)


def abstract_rows(*shape: int, dtype: Any = np.float32) -> Shape:
    """The shape of an array whose rows are divided over the ambient mesh."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return Shape(shape, dtype)
    return Shape(shape, dtype, sharding=NamedSharding(mesh, row_spec(shape[0], mesh.shape)))


def _init(config: ModelConfig) -> Any:
    return architecture(config).init(jax.random.key(0))


def _placed(abstract: Any, config: ModelConfig) -> dict[str, Any]:
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return dict(abstract)
    shapes: dict[str, Any] = {
        name: Shape(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, param_spec(name, config, mesh.shape)))
        for name, leaf in flat(abstract).items()
    }
    return nested(shapes)


def _devices(topology: str) -> list[Any]:
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{topology!r} is no slice that the TPU compiler knows ({str(error).splitlines()[0]}); write it as v5e:4x4,"
            " v5p:2x2x1 or v6e:2x4."
        ) from error
