"""Hugging Face checkpoints in safetensors, to and from the decoder's params.

In: a folder with config.json and model.safetensors, or model.safetensors.index.json and its shards, in float32,
bfloat16 or float16, never a pickle. Out: a float32 `Policy`; and back, a folder that `transformers` loads with the same
logits.
Their linear layers hold [out, in], ours [in, out]; their rotary layout is ours.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scaling.model.policy import Policy, flat, nested, param_shapes
from scaling.model.sharding import placed_params, whole
from scaling.model.sizes import ModelConfig
from scaling.pretrained.hf_config import CONFIG_FILE, as_config, read_config

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4 * 2**30
DTYPES = ("F32", "BF16", "F16")

_MODULES = (
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attention.query"),
    ("self_attn.k_proj", "attention.key"),
    ("self_attn.v_proj", "attention.value"),
    ("self_attn.o_proj", "attention.output"),
    ("self_attn.q_norm", "attention.query_norm"),
    ("self_attn.k_norm", "attention.key_norm"),
    ("mlp.gate_proj", "ffn.gate"),
    ("mlp.up_proj", "ffn.up"),
    ("mlp.down_proj", "ffn.down"),
)
_TOP = {"embedding": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}


def load_checkpoint(folder: Path) -> Policy:
    """Read a checkpoint; raises ValueError naming what is missing, unexpected or of another shape or type."""
    config = read_config(folder)
    with ExitStack() as stack:
        owners: dict[str, Any] = {}  # safe_open, whose methods have no annotations
        for path in _weight_files(folder):
            try:
                stored = stack.enter_context(safe_open(path, framework="numpy"))
            except (SafetensorError, FileNotFoundError) as error:
                raise ValueError(
                    f"{path} is not a complete safetensors file ({error}); download the checkpoint again."
                ) from error
            for name in stored.keys():
                if name in owners:
                    raise ValueError(
                        f"{path}: tensor {name!r} is in another shard as well; download the checkpoint again."
                    )
                owners[name] = stored
        shapes = {name: tuple(owner.get_slice(name).get_shape()) for name, owner in owners.items()}
        for name, owner in owners.items():
            if (dtype := owner.get_slice(name).get_dtype()) not in DTYPES:
                raise ValueError(f"{folder}: tensor {name!r} is {dtype}; expected one of {', '.join(DTYPES)}.")
        return Policy(read_params(config, shapes, lambda name: owners[name].get_tensor(name), str(folder)), config)


def read_params(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray], where: str
) -> dict[str, object]:
    """The params of tensors under their Hugging Face names, read one by one into float32; `where` is for errors."""
    ours = param_shapes(config)
    names = {hf_name(name): name for name in ours}
    for name in names:
        if name not in shapes:
            raise ValueError(
                f"{where} has no tensor {name!r}, which its config implies; download the checkpoint again."
            )
    for name in shapes:
        if name not in names and not _is_redundant(name, config, read):
            raise ValueError(f"{where} has an unexpected tensor {name!r}; its config implies no such part.")
    arrays = {}
    for name, own in names.items():
        is_kernel = own.endswith(".kernel")
        expected = ours[own][::-1] if is_kernel else ours[own]
        if shapes[name] != expected:
            raise ValueError(f"{where}: tensor {name!r} has shape {shapes[name]}, its config implies {expected}.")
        array = np.asarray(read(name)).astype(np.float32)
        arrays[own] = array.T if is_kernel else array
    return placed_params(nested(arrays), config)


def save_checkpoint(policy: Policy, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write config.json and the weights in float32, in several files where they exceed shard_bytes."""
    config = as_config(policy.config)
    shards: list[dict[str, jax.Array]] = [{}]
    room = shard_bytes
    for name, leaf in flat(whole(policy.params)).items():
        if leaf.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = leaf
        room -= leaf.nbytes
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards, start=1):
        file = WEIGHTS_FILE if len(shards) == 1 else f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        arrays = {hf_name(name): _as_stored(name, leaf) for name, leaf in shard.items()}
        save_file(arrays, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(arrays, file)
    if len(shards) > 1:
        total = sum(leaf.nbytes for shard in shards for leaf in shard.values())
        index_ = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(json.dumps(index_, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def hf_name(name: str) -> str:
    """The Hugging Face name of a param of ours, dotted: layers.0.ffn.up.kernel -> model.layers.0.mlp.up_proj.weight."""
    module, _, leaf = name.rpartition(".")
    suffix = "bias" if leaf == "bias" else "weight"
    if module in _TOP:
        return f"{_TOP[module]}.{suffix}"
    layers, index, inner = module.split(".", 2)
    theirs = next(theirs for theirs, own in _MODULES if own == inner)
    return f"model.{layers}.{index}.{theirs}.{suffix}"


def _as_stored(name: str, leaf: jax.Array) -> np.ndarray:
    array = np.asarray(leaf)
    return np.ascontiguousarray(array.T) if name.endswith(".kernel") else array


def _is_redundant(name: str, config: ModelConfig, read: Callable[[str], np.ndarray]) -> bool:
    """Whether a tensor only repeats what the config says: old rotary tables, and the head of a tied embedding."""
    if name.endswith(".self_attn.rotary_emb.inv_freq"):
        return True
    tied = name == hf_name("head.kernel") and not config.untied_head
    return tied and np.array_equal(read(name), read(hf_name("embedding.embedding")))


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        stated = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(stated.values()))
        for file in files:
            if Path(file).name != file:
                raise ValueError(f"{folder / INDEX_FILE} names the shard {file!r}; a shard lies beside its index.")
            if not (folder / file).is_file():
                raise ValueError(
                    f"{folder} lacks the shard {file}, which {INDEX_FILE} names; download the checkpoint again."
                )
        return [folder / file for file in files]
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise ValueError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which can run any code when it is read; convert it to"
            f" {WEIGHTS_FILE} where you trust it, or take a revision that has safetensors."
        )
    raise ValueError(
        f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}; give the folder of a whole checkpoint. Of a hub's"
        " repository only safetensors are fetched: one that has pickles alone cannot be read."
    )
