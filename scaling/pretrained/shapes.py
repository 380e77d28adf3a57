"""Shapes of checkpoints that ship with the sweeps: a plan of them needs neither the hub nor the extra `hf`.

In: a hub name. Out: the decoder's shape in `configs/<hub name>.json`, in the fields of `ModelConfig`, or None.
A plan's FLOPs and memory follow from it and nothing else does: what is trained is the shape of the checkpoint itself,
so the file is no part of a stage's identity.
"""

import json
from pathlib import Path

from scaling.model.sizes import ModelConfig
from scaling.paths import SHAPES


def known_shape(hf: str, configs: Path = SHAPES) -> ModelConfig | None:
    """The shape that ships for a checkpoint; raises ValueError naming a file that holds no shape."""
    path = configs / f"{hf}.json"
    if Path(hf).is_absolute() or ".." in Path(hf).parts or not path.is_file():
        return None
    try:
        return ModelConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no shape of a decoder: {error}. Its fields are those of ModelConfig.") from error
