"""The base policy of a study on a pretrained model: a Hugging Face checkpoint or a GGUF file, taken into the store.

In: its name or path. Out: the policy, its tokenizer's files beside it, and `source.json`: the name, the revision asked
for and the commit that the hub gave. The weights are read once; a plan reads the checkpoint's config.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from data.gguf_tokenizer import write_tokenizer
from data.hf_tokenizer import load_tokenizer, save_tokenizer
from scaling.model.gguf_file import load_gguf
from scaling.model.hf import load_checkpoint
from scaling.model.hub import fetch
from scaling.model.policy import Policy, save_policy
from scaling.policy_config import Policy as PolicySettings
from scaling.section import parse

SOURCE_FILE = "source.json"


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Import. config: policy (hf, revision, prompt_template, and compute_dtype if not the default)."""
    settings = parse(PolicySettings, config["policy"])
    name, revision = settings.hf, settings.revision
    source = fetch(name, revision)
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
    told = {"hf": name, "revision": revision, "commit": source.commit}
    (out / SOURCE_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return {"training_flops": 0.0, "num_updates": 0.0, "num_params": float(shape.num_params)}
