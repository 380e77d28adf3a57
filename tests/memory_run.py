"""What test_memory compares: bytes predicted and bytes that XLA allocates, on eight fake CPU devices.

Out, on standard output: a JSON list of [name, predicted, allocated]. Compiled only; nothing is computed.
"""

import json
import sys
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from algorithms.dpo import preference_loss
from algorithms.sft import nll
from scaling.model.layout import AXES
from scaling.model.memory_need import sampling_memory, scoring_memory, training_memory
from scaling.model.policy import flat, nested
from scaling.model.sampling import _Chunk, _generate, _Program
from scaling.model.sharding import ROWS, on_mesh, param_spec
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.training.logps import _forward
from scaling.training.update import make_accumulate

Shape = jax.ShapeDtypeStruct
NOT_IN_THE_STEP = ("start policy", "AdamW moments")  # in memory beside the step, but no argument of it


def config(vocab: int, width: int, layers: int, heads: int, kv_heads: int, ffn: int, **more) -> ModelConfig:
    return ModelConfig(vocab, width, layers, heads, kv_heads, head_width=width // heads, ffn_width=ffn, **more)


# name: (mesh, sequences on all devices, tokens of each, decoder)
TRAINING = {
    "attention": ((1, 1, 1), 4, 256, config(512, 128, 3, 8, 8, 256)),
    "vocabulary": ((1, 1, 1), 8, 64, config(8192, 128, 2, 4, 1, 352, untied_head=True)),
    "feed-forward": ((1, 1, 1), 8, 128, config(512, 256, 4, 4, 2, 2048)),
    "params": ((1, 1, 1), 1, 16, config(2048, 512, 4, 8, 8, 1408, untied_head=True)),
    "fsdp": ((1, 8, 1), 16, 64, config(2048, 256, 4, 8, 8, 704)),
    "fsdp, params": ((1, 8, 1), 8, 32, config(2048, 512, 3, 8, 8, 1408, untied_head=True)),
    "fsdp and tensor": ((1, 4, 2), 16, 64, config(2048, 256, 4, 8, 4, 704, untied_head=True, qkv_bias=True)),
    "tensor": ((1, 1, 8), 4, 64, config(2048, 256, 4, 8, 2, 704)),
    "data": ((8, 1, 1), 16, 64, config(2048, 256, 4, 8, 8, 704)),
    "all three": ((2, 2, 2), 16, 64, config(2048, 256, 4, 8, 4, 704, untied_head=True)),
}
# name: (mesh, rows, prompts, tokens of a prompt, new tokens, decoder)
SAMPLING = {
    "cache": ((1, 1, 1), 128, 64, 64, 256, config(2048, 256, 4, 8, 8, 704)),
    "prefill": ((1, 1, 1), 128, 128, 128, 64, config(2048, 256, 3, 8, 4, 1408)),
    "grouped": ((1, 1, 1), 128, 128, 128, 128, config(512, 512, 3, 8, 1, 704)),
    "fsdp and tensor": ((1, 4, 2), 128, 128, 64, 128, config(2048, 256, 4, 8, 4, 704)),
    "data and tensor": ((2, 1, 4), 128, 128, 64, 128, config(2048, 256, 3, 8, 8, 704)),
    "data": ((8, 1, 1), 128, 128, 64, 128, config(2048, 256, 3, 8, 8, 704)),
}


def placed(decoder: ModelConfig, axes: Mapping[str, int]) -> dict[str, object]:
    """The shapes of a decoder's params, where the table puts them."""
    mesh, abstract = jax.sharding.get_mesh(), jax.eval_shape(architecture(decoder).init, jax.random.key(0))
    if mesh.empty:
        return abstract
    found = {}
    for name, leaf in flat(abstract).items():
        found[name] = Shape(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, param_spec(name, decoder, axes)))
    return nested(found)


def rows_of(*shape: int, dtype: object = np.float32) -> Shape:
    mesh = jax.sharding.get_mesh()
    return Shape(shape, dtype) if mesh.empty else Shape(shape, dtype, sharding=NamedSharding(mesh, P(ROWS)))


def allocated(lowered: jax.stages.Lowered) -> int:
    analysis = lowered.compile().memory_analysis()
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def training() -> Iterator[tuple[str, float, int]]:
    """NLL on all shapes, and DPO on one: a pair is two sequences."""
    for name, (sizes, rows, length, decoder) in TRAINING.items():
        axes = dict(zip(AXES, sizes, strict=True))
        parts = training_memory(decoder, axes, rows // (sizes[0] * sizes[1]), length)
        with on_mesh(axes):
            params, accumulate = placed(decoder, axes), make_accumulate(decoder, nll, None, False)
            batch = {"tokens": rows_of(rows, length, dtype=np.int32), "mask": rows_of(rows, length)}
            found = allocated(accumulate.lower(params, params, {}, batch | {"weight": rows_of(rows)}, {}))
        yield f"nll, {name}", sum(size for part, size in parts.items() if part not in NOT_IN_THE_STEP), found
        if name == "feed-forward":
            accumulate = make_accumulate(decoder, preference_loss, None, False)
            batch = {"tokens": rows_of(rows // 2, 2, length, dtype=np.int32), "mask": rows_of(rows // 2, 2, length)}
            batch |= {"weight": rows_of(rows // 2), "ref_logps": rows_of(rows // 2, 2)}
            constants = {"beta": Shape((), np.float32), "nll_weight": Shape((), np.float32)}
            found = allocated(accumulate.lower(params, params, {}, batch, constants))
            yield f"dpo, {name}", sum(size for part, size in parts.items() if part not in NOT_IN_THE_STEP), found


def sampling() -> Iterator[tuple[str, float, int]]:
    """One chunk of the sampler."""
    for name, (sizes, rows, prompts, length, new, decoder) in SAMPLING.items():
        axes, ways = dict(zip(AXES, sizes, strict=True)), sizes[0] * sizes[1]
        parts = sampling_memory(decoder, axes, rows // ways, prompts // ways, length, new)
        keys = jax.eval_shape(lambda rows=rows: jax.random.split(jax.random.key(0), rows))
        prompt_of = Shape((rows,), np.int32) if prompts < rows else None
        with on_mesh(axes):
            starts, limits, scalar = Shape((prompts,), np.int32), Shape((rows,), np.int32), Shape((), jnp.float32)
            chunk = _Chunk(
                Shape((prompts, length), np.int32), starts, prompt_of, keys, limits, scalar, scalar, written=None
            )
            lowered = _generate.lower(placed(decoder, axes), chunk, _Program(decoder, new, greedy=False, nucleus=False))
            yield f"sampling, {name}", sum(parts.values()), allocated(lowered)


def scoring() -> Iterator[tuple[str, float, int]]:
    """The log-probabilities of a frozen policy, at some of the shapes of training."""
    for name in ("attention", "vocabulary", "feed-forward", "data", "fsdp"):
        sizes, rows, length, decoder = TRAINING[name]
        axes = dict(zip(AXES, sizes, strict=True))
        parts = scoring_memory(decoder, axes, rows // (sizes[0] * sizes[1]), length)
        with on_mesh(axes):
            batch = rows_of(rows, length, dtype=np.int32), rows_of(rows, length)
            lowered = _forward(decoder).lower(placed(decoder, axes), *batch)
            yield f"scoring, {name}", sum(parts.values()), allocated(lowered)


if __name__ == "__main__":
    json.dump([*training(), *sampling(), *scoring()], sys.stdout)
