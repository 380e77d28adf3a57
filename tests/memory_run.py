"""What test_memory compares: bytes predicted and bytes that XLA allocates, on eight fake CPU devices.

Out, on standard output: a JSON list of [name, predicted, allocated]. Compiled only; nothing is computed.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

from scaling.lowering import lowered
from scaling.model.sharding import on_mesh
from scaling.model.sizes import ModelConfig
from scaling.pricing.programs import BESIDE, Program


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
LARGE = {
    "large, fsdp": ((1, 8, 1), 64, 64, config(8192, 128, 2, 4, 4, 352, untied_head=True)),
    "large, fsdp and tensor": ((1, 4, 2), 64, 64, config(8192, 128, 2, 4, 4, 352, untied_head=True)),
    "large, data": ((8, 1, 1), 64, 64, config(8192, 128, 2, 4, 4, 352, untied_head=True)),
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


def programs() -> Iterator[tuple[str, Program]]:
    """NLL and one chunk of the sampler on all shapes; DPO and log-probabilities of a frozen policy on some."""
    for name, (mesh, rows, length, decoder) in TRAINING.items():
        yield f"nll, {name}", Program("training", decoder, mesh, rows, length)
    for name in ("vocabulary", "large, fsdp", "large, fsdp and tensor", "large, data"):
        mesh, rows, length, decoder = (TRAINING | LARGE)[name]
        yield f"grpo, {name}", Program("training", decoder, mesh, rows, length, whole_logits=True)
    mesh, rows, length, decoder = TRAINING["feed-forward"]
    yield "dpo, feed-forward", Program("training on pairs", decoder, mesh, rows, length)
    for name, (mesh, rows, prompts, length, new, decoder) in SAMPLING.items():
        yield f"sampling, {name}", Program("sampling", decoder, mesh, rows, length, prompts, new)
    for name in ("attention", "vocabulary", "feed-forward", "data", "fsdp"):
        mesh, rows, length, decoder = TRAINING[name]
        yield f"scoring, {name}", Program("scoring", decoder, mesh, rows, length)
    mesh, rows, length, decoder = TRAINING["attention"]
    for work in ("training", "scoring"):
        yield f"{work}, jax's attention", Program(work, replace(decoder, attention="xla"), mesh, rows, length)


def compared(program: Program) -> tuple[float, int]:
    """Bytes predicted and allocated, without those in memory beside the call."""
    predicted = sum(size for part, size in program.memory.items() if part not in BESIDE)
    with on_mesh(program.axes):
        analysis = lowered(program).compile().memory_analysis()
    return predicted, analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


if __name__ == "__main__":
    json.dump([[name, *compared(program)] for name, program in programs()], sys.stdout)
