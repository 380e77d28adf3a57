"""The shape of a named checkpoint, without its weights, for plans.

In: a hub name or a path. Out: `ModelConfig`. Some shapes ship with the sweeps, in `configs/<hub name>.json` with
the fields of `ModelConfig`: a plan of these needs neither the hub nor the extra `hf`. Only a plan's FLOPs and memory
follow from such a file: what is trained is the shape of the checkpoint itself, so the file is not part of any stage's
identity.
"""

import json
from pathlib import Path

from scaling.model.sizes import ModelConfig
from scaling.paths import SHAPES
from scaling.pretrained.hf_config import CONFIG_FILE, GENERATION_FILE, read_config
from scaling.pretrained.hub import fetch


def known_shape(hf: str, configs: Path = SHAPES) -> ModelConfig | None:
    """The shape that ships for a checkpoint; raises ValueError naming a file that holds no shape."""
    path = configs / f"{hf}.json"
    if Path(hf).is_absolute() or ".." in Path(hf).parts or not path.is_file():
        return None
    try:
        return ModelConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the shape of a decoder: {error}. Its fields are those of ModelConfig."
        ) from error


def imported_shape(hf: str, revision: str | None) -> ModelConfig:
    """The shape that a checkpoint's own config states."""
    source = fetch(hf, revision, (CONFIG_FILE, GENERATION_FILE))
    if source.path.suffix != ".gguf":
        return read_config(source.path)
    from scaling.pretrained.gguf_file import read_shape  # brings jax

    return read_shape(source.path)
