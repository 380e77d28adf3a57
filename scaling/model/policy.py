"""A policy on disk: `policy.safetensors` with its params, or adapters to those of another, and `policy.json`.

In: a directory. Out: `Policy`, whose params are a nested dict of float32 arrays. No pickle.

A policy that was trained with LoRA is a few megabytes beside gigabytes of params that a whole study shares, so its
artifact holds adapters only: those of its start policy, if any, and its own. When it is read, they are merged in this
order into the params of the policy that all of them start from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from scaling.config.policy import Lora
from scaling.config.section import parse
from scaling.model.ambient import as_in_force
from scaling.model.lora import merged
from scaling.model.sharding import dotted, placed_params, whole
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params, architecture

PARAMS_FILE, SHAPE_FILE = "policy.safetensors", "policy.json"
ADAPTERS_FILE, LORA_FILE = "adapters.safetensors", "adapters.json"
POLICY_FILES = (PARAMS_FILE, SHAPE_FILE, ADAPTERS_FILE, LORA_FILE)  # those that a policy may have


@dataclass(frozen=True)
class Adapters:
    """Adapters with the settings that they were made with."""

    params: Params  # see scaling.model.lora
    lora: Lora


@dataclass(frozen=True)
class Policy:
    """Params and the shape of the decoder that they fit."""

    params: Params  # plain ones: adapters are merged
    config: ModelConfig
    adapters: tuple[Adapters, ...] = ()  # those that turned a base policy's params into these, in order


def policy_of(inputs: Mapping[str, Path], name: str) -> Policy:
    """The stage's input of this name as a policy; `base` is the policy that its adapters add to, if it has any."""
    return load_policy(inputs[name], inputs.get("base"))


def save_trained(start: Policy, trained: Params, lora: Lora | None, directory: Path) -> None:
    """Write the result of training: the params or, with lora, the start policy's adapters followed by these."""
    if lora is None:
        save_policy(Policy(trained, start.config), directory)
        return
    _save_adapters((*start.adapters, Adapters(trained, lora)), start.config, directory)


def _save_adapters(chain: tuple[Adapters, ...], config: ModelConfig, directory: Path) -> None:
    tensors = {f"{index}.{name}": leaf for index, one in enumerate(chain) for name, leaf in flat(one.params).items()}
    save_file({name: np.asarray(leaf) for name, leaf in tensors.items()}, directory / ADAPTERS_FILE)
    settings = [one.lora.model_dump(mode="json") for one in chain]
    (directory / LORA_FILE).write_text(json.dumps(settings, indent=1) + "\n")
    (directory / SHAPE_FILE).write_text(json.dumps(config.as_json(), indent=1) + "\n")


def save_policy(policy: Policy, directory: Path) -> None:
    """Write the two files; names are the paths in the nested dict, joined by dots."""
    save_file({name: np.asarray(leaf) for name, leaf in flat(whole(policy.params)).items()}, directory / PARAMS_FILE)
    (directory / SHAPE_FILE).write_text(json.dumps(policy.config.as_json(), indent=1) + "\n")


def passed_on(policy: Policy, directory: Path) -> dict[str, float]:
    """Save the policy unchanged, for a round of training without data; returns the numbers of its record."""
    if policy.adapters:
        _save_adapters(policy.adapters, policy.config, directory)
    else:
        save_policy(policy, directory)
    return {"num_updates": 0.0, "num_tokens": 0.0, "training_flops": 0.0}


def load_policy(directory: Path, base: Path | None = None) -> Policy:
    """Read a policy; raises ValueError naming a cut file, or a tensor that is missing, unknown or of another shape.

    base: the directory of the policy that adapters are merged into; read only if there are adapters.
    """
    config = load_shape(directory)
    if (directory / ADAPTERS_FILE).exists():
        if base is None:
            raise ValueError(f"{directory} holds adapters, not params; give the policy that they start from, too.")
        start = load_policy(base)
        if start.config != config:
            raise ValueError(
                f"{directory} holds adapters of another shape than {base}; give the policy that they were trained on."
            )
        chain = load_adapters(directory)
        params = reduce(lambda params, one: merged(params, one.params, one.lora), chain, start.params)
        return Policy(params, config, chain)
    stored = _read(directory / PARAMS_FILE)
    names = param_shapes(config)
    for name in sorted(names.keys() ^ stored.keys()):
        side = "has no tensor" if name in names else "has an unknown tensor"
        raise ValueError(f"{directory / PARAMS_FILE} {side} {name!r}; was it written for another architecture?")
    for name, shape in names.items():
        if stored[name].shape != shape:
            raise ValueError(
                f"{directory / PARAMS_FILE}: {name} has shape {stored[name].shape}, {SHAPE_FILE} implies {shape}."
            )
    return Policy(placed_params(nested(stored), config), config)


def load_adapters(directory: Path) -> tuple[Adapters, ...]:
    """The adapters of a policy that was trained with LoRA, in the order in which they are merged."""
    settings = json.loads((directory / LORA_FILE).read_text())
    stored = nested(_read(directory / ADAPTERS_FILE))
    return tuple(Adapters(stored[index], parse(Lora, lora)) for index, lora in enumerate(settings))


def load_shape(directory: Path) -> ModelConfig:
    """The shape alone, with the implementation of attention in force here."""
    return as_in_force(ModelConfig.from_json(json.loads((directory / SHAPE_FILE).read_text())))


def param_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Dotted name -> shape of every param of a decoder; nothing is computed."""
    abstract = jax.eval_shape(architecture(config).init, jax.random.key(0))
    return {name: leaf.shape for name, leaf in flat(abstract).items()}


def flat(params: Params) -> dict[str, jax.Array]:
    """Dotted name -> array of a nested dict."""
    return {dotted(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def nested(arrays: Mapping[str, np.ndarray]) -> dict[Any, Any]:
    """The nested dict of dotted names; a number is the index of a layer."""
    paths = {name: tuple(int(part) if part.isdigit() else part for part in name.split(".")) for name in arrays}
    root: dict[Any, Any] = unflatten_dict({paths[name]: array for name, array in arrays.items()})
    return root


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); remove the artifact and run it again."
        ) from error
