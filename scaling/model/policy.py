"""A policy on disk: `policy.safetensors` with its params and `policy.json` with its shape.

In: a directory. Out: `Policy`, whose params are a nested dict of float32 arrays. No pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from scaling.model.sharding import placed_params, whole
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params, architecture

PARAMS_FILE, SHAPE_FILE = "policy.safetensors", "policy.json"


@dataclass(frozen=True)
class Policy:
    """Params and the shape of the decoder that they fit."""

    params: Params
    config: ModelConfig


def save_policy(policy: Policy, directory: Path) -> None:
    """Write the two files; names are the paths in the nested dict, joined by dots."""
    save_file({name: np.asarray(leaf) for name, leaf in flat(whole(policy.params)).items()}, directory / PARAMS_FILE)
    (directory / SHAPE_FILE).write_text(json.dumps(policy.config.as_json(), indent=1) + "\n")


def load_policy(directory: Path) -> Policy:
    """Read a policy; raises ValueError naming a cut file, or a tensor that is missing, unknown or of another shape."""
    config = load_shape(directory)
    try:
        stored = load_file(directory / PARAMS_FILE)
    except SafetensorError as error:
        raise ValueError(
            f"{directory / PARAMS_FILE} is no whole safetensors file ({error}); remove the artifact and run it again."
        ) from error
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


def load_shape(directory: Path) -> ModelConfig:
    """The shape alone."""
    return ModelConfig.from_json(json.loads((directory / SHAPE_FILE).read_text()))


def param_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Dotted name -> shape of every param of a decoder; nothing is computed."""
    abstract = jax.eval_shape(architecture(config).init, jax.random.key(0))
    return {name: leaf.shape for name, leaf in flat(abstract).items()}


def flat(params: Params) -> dict[str, jax.Array]:
    """Dotted name -> array of a nested dict."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {".".join(str(getattr(entry, "key", entry)) for entry in path): leaf for path, leaf in leaves}


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, object]:
    """The nested dict of dotted names; a number is the index of a layer."""
    root: dict = {}
    for name, array in arrays.items():
        *parents, leaf = (int(part) if part.isdigit() else part for part in name.split("."))
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = array
    return root
