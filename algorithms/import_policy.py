"""The base policy of a study on a pretrained model: a Hugging Face checkpoint or a GGUF file, taken into the store.

In: its name on the hub, or its path and the digest of what it holds. Out: the policy, its tokenizer's files beside it,
and `source.json`: the name, the revision asked for and the commit that the hub gave. The weights are read once; a plan
reads the checkpoint's config.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.tokens.gguf_tokenizer import write_tokenizer
from data.tokens.hf_tokenizer import load_tokenizer, save_tokenizer
from scaling.config.policy import Policy as PolicySettings
from scaling.config.section import parse
from scaling.model.policy import Policy, save_policy
from scaling.pretrained.gguf_file import load_gguf
from scaling.pretrained.hf import load_checkpoint
from scaling.pretrained.hub import content_digest, fetch

SOURCE_FILE = "source.json"


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Import. config: policy (hf, revision, prompt_template, and compute_dtype if not the default).

    Of a checkpoint on this machine hf is the digest of its content, and `checkpoint` its path.
    """
    settings = parse(PolicySettings, config["policy"])
    name, revision = settings.hf, settings.revision
    assert name is not None  # else the base policy is trained, not imported
    source = fetch(config.get("checkpoint", name), revision)
    described = {"hf": name, "revision": revision, "commit": source.commit}
    if "checkpoint" in config:
        _check_content(source.path, name)
        described["name"] = source.path.name
    if source.path.suffix == ".gguf":
        policy = load_gguf(source.path)
        write_tokenizer(source.path, out)
        tokenizer = load_tokenizer(out, policy.config)
    else:
        policy = load_checkpoint(source.path)
        tokenizer = load_tokenizer(source.path, policy.config)
    save_tokenizer(tokenizer, out, settings.prompt_template)
    bfloat16 = settings.compute_dtype == "bfloat16"
    shape = replace(policy.config, stop_tokens=tokenizer.stop_tokens, bfloat16=bfloat16)
    save_policy(Policy(policy.params, shape), out)
    (out / SOURCE_FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return {"training_flops": 0.0, "num_updates": 0.0, "num_params": float(shape.num_params)}


def _check_content(path: Path, expected: str) -> None:
    found = content_digest(path)
    if found != expected:
        raise ValueError(
            f"{path} has changed since the sweep was planned: its content is {found[:17]}..., expected"
            f" {expected[:17]}...; run the sweep again."
        )
