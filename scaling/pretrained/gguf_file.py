"""GGUF files, the format of llama.cpp, into the decoder's params; quantised weights are turned into float32.

In: a .gguf file of a Llama, Qwen2 or Qwen3. Out: a float32 `Policy`. The package `gguf` reads and dequantises. For
Llama the rows of queries and keys are stored with rotary pairs side by side; here pairs are the two halves of a head.
"""

from pathlib import Path
from typing import Any

import numpy as np

from scaling.model.policy import Policy
from scaling.model.sizes import ModelConfig
from scaling.pretrained.hf import read_params

ARCHITECTURES = ("llama", "qwen2", "qwen3")
_STOP = "tokenizer.ggml.eos_token_id"

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_gguf(path: Path) -> Policy:
    """Read a file; raises ValueError naming what is missing, unexpected, of another shape or not supported."""
    config, tensors, kind = _opened(path)
    from gguf.quants import dequantize

    def read(name: str) -> np.ndarray:
        array: np.ndarray = dequantize(tensors[name].data, tensors[name].tensor_type)
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            return _halves(array, config.head_width)
        return array

    shapes = {name: tuple(int(size) for size in tensor.shape[::-1]) for name, tensor in tensors.items()}
    return Policy(read_params(config, shapes, read, str(path)), config)


def read_shape(path: Path) -> ModelConfig:
    """The shape alone."""
    return _opened(path)[0]


def hf_name(name: str) -> str:
    """The Hugging Face name of a tensor: blk.0.ffn_up.weight -> model.layers.0.mlp.up_proj.weight; else unchanged."""
    module, _, suffix = name.rpartition(".")
    if module in _TOP:
        return f"{_TOP[module]}.{suffix}"
    block, _, rest = module.partition(".")
    index, _, inner = rest.partition(".")
    if block == "blk" and inner in _IN_LAYER:
        return f"model.layers.{index}.{_IN_LAYER[inner]}.{suffix}"
    return name


def _opened(path: Path) -> tuple[ModelConfig, dict[str, Any], str]:
    """The shape, the tensors by their Hugging Face names, and the architecture."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError(
            "reading a GGUF file needs the package gguf, which is not installed; install the project with its extra:"
            " pip install --editable '.[hf]'."
        ) from error
    reader = GGUFReader(path)
    scalar = [name for name in reader.fields if not name.startswith("tokenizer.") or name == _STOP]
    fields = {name: reader.fields[name].contents() for name in scalar}
    tensors = {hf_name(tensor.name): tensor for tensor in reader.tensors}
    return _shape(fields, tensors, str(path)), tensors, fields["general.architecture"]


def _shape(fields: dict[str, Any], tensors: dict[str, Any], where: str) -> ModelConfig:
    kind = fields["general.architecture"]
    if kind not in ARCHITECTURES:
        raise ValueError(f"{where}: general.architecture is {kind!r}; the decoder knows {', '.join(ARCHITECTURES)}.")
    stated = {name.removeprefix(f"{kind}."): value for name, value in fields.items() if name.startswith(f"{kind}.")}
    for name in ("rope.scaling.type", "attention.sliding_window", "expert_count"):
        if stated.get(name) not in (None, "none", 0):
            raise ValueError(
                f"{where}: {kind}.{name} is {stated[name]!r}; the decoder does not support it in GGUF files."
            )
    width, num_heads = stated["embedding_length"], stated["attention.head_count"]
    head_width = stated.get("attention.key_length", width // num_heads)
    rotated = stated.get("rope.dimension_count", head_width)
    if rotated != head_width:
        raise ValueError(
            f"{where}: {kind}.rope.dimension_count is {rotated}; the decoder rotates whole heads, {head_width}."
        )
    return ModelConfig(
        vocab_size=int(tensors["model.embed_tokens.weight"].shape[1]),
        width=width,
        num_layers=stated["block_count"],
        num_heads=num_heads,
        num_kv_heads=stated.get("attention.head_count_kv", num_heads),
        head_width=head_width,
        ffn_width=stated["feed_forward_length"],
        rope_theta=float(stated.get("rope.freq_base", 10_000.0)),
        norm_epsilon=float(stated["attention.layer_norm_rms_epsilon"]),
        max_positions=stated["context_length"],
        untied_head="lm_head.weight" in tensors,
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        stop_tokens=(fields[_STOP],) if _STOP in fields else None,
    )


def _halves(rows: np.ndarray, head_width: int) -> np.ndarray:
    """[H*E, D] with the pairs of a head side by side -> with the first of every pair before the second."""
    pairs = rows.reshape(-1, head_width // 2, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)
