"""Adapters in the format of the `peft` package, which loads them onto the checkpoint that they were trained on.

In: the adapters of a policy, in the order in which they are merged. Out: a folder with `adapter_config.json` and
`adapter_model.safetensors`. The format has one adapter per matrix, so several are written as one of the sum of their
ranks: A1 B1 + A2 B2 = [A1 A2] [B1; B2]. Their matrices are [out, in], ours [in, out].
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from scaling.model.layout import PLACES
from scaling.model.policy import Adapters, flat
from scaling.pretrained.hf import hf_name

PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."


def save_peft(chain: Sequence[Adapters], base_name: str, folder: Path) -> None:
    """Write the adapters. base_name: the checkpoint that they add to, a name of the hub or a path."""
    targets = {one.lora.targets for one in chain}
    if len(targets) != 1:
        raise ValueError(
            f"the adapters have {len(targets)} different sets of targets; expected one. Export the policy merged, with"
            " scaling.pretrained.hf.save_checkpoint."
        )
    tensors = [flat(one.params) for one in chain]
    arrays = {}
    for name in tensors[0]:
        place, _, leaf = name.rpartition(".adapter.")
        parts = [np.asarray(arrays_of[name]) for arrays_of in tensors]
        if leaf == "b":
            parts = [part * one.lora.scaling for part, one in zip(parts, chain, strict=True)]
        module = hf_name(f"{place}.kernel").removesuffix(".weight")
        joined = np.concatenate(parts, axis=1 if leaf == "a" else 0)
        arrays[f"{_PREFIX}{module}.lora_{leaf.upper()}.weight"] = np.ascontiguousarray(joined.T, np.float32)
    save_file(arrays, folder / PEFT_WEIGHTS_FILE, metadata={"format": "pt"})
    rank = sum(one.lora.rank for one in chain)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": rank,  # B holds alpha / rank already
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(_module_name(target) for target in chain[0].lora.targets),
    }
    (folder / PEFT_CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _module_name(target: str) -> str:
    """query -> q_proj."""
    return hf_name(f"layers.0.{'.'.join(PLACES[target])}.kernel").split(".")[-2]
