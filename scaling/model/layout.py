"""How the params of the decoder are divided over a mesh: one table, to place arrays and to predict memory; no jax.

In: the shape of a decoder and the sizes of a mesh's axes. Out: for every param its shape, and the axis that divides
each of its dimensions. Axes: `data` repeats the params and divides rows; `fsdp` divides rows and params (Rajbhandari
et al. 2020, arXiv 1910.02054, stage 3); `tensor` divides heads, feed-forward width and vocabulary (Shoeybi et al. 2019,
arXiv 1909.08053).

If an axis does not divide a dimension's count evenly, that dimension is whole on each of its devices. The count of a
head dimension is the number of heads. So a head is never cut, and key and value heads that are fewer than the `tensor`
axis are repeated.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from scaling.model.sizes import ModelConfig

AXES = ("data", "fsdp", "tensor")
ONE_DEVICE: Mapping[str, int] = MappingProxyType(dict.fromkeys(AXES, 1))

# The dotted path of a param without its layer -> what each of its dimensions counts. Params that are not here are small
# (a norm's scale, a bias after a whole product, an adapter) and whole everywhere.
PARAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "embedding.embedding": ("vocab", "width"),
        "head.kernel": ("width", "vocab"),
        "attention.query.kernel": ("width", "heads"),
        "attention.key.kernel": ("width", "kv_heads"),
        "attention.value.kernel": ("width", "kv_heads"),
        "attention.output.kernel": ("heads", "width"),
        "attention.query.bias": ("heads",),
        "attention.key.bias": ("kv_heads",),
        "attention.value.bias": ("kv_heads",),
        "ffn.gate.kernel": ("width", "ffn"),
        "ffn.up.kernel": ("width", "ffn"),
        "ffn.down.kernel": ("ffn", "width"),
    }
)
# Target of a `Lora` -> where its matrix is in a layer; the order decides the random numbers, so it must not change.
PLACES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {name: ("attention", name) for name in ("query", "key", "value", "output")}
    | {name: ("ffn", name) for name in ("gate", "up", "down")}
)
# What a dimension counts -> the axis of the mesh that divides it.
OVER: Mapping[str, str] = MappingProxyType(
    {"vocab": "tensor", "heads": "tensor", "kv_heads": "tensor", "ffn": "tensor", "width": "fsdp"}
)


def counts(config: ModelConfig) -> dict[str, int]:
    """How many of each kind a decoder has."""
    return {
        "vocab": config.vocab_size,
        "width": config.width,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "ffn": config.ffn_width,
    }


def dimensions(config: ModelConfig) -> dict[str, int]:
    """The length of a dimension that counts this kind."""
    found = counts(config)
    return found | {kind: found[kind] * config.head_width for kind in ("heads", "kv_heads")}


def axis_of(kind: str, count: int, axes: Mapping[str, int]) -> str | None:
    """The axis of the mesh that divides `count` of a kind; None if it does not divide evenly."""
    return OVER[kind] if count % axes[OVER[kind]] == 0 else None


def share(kind: str, config: ModelConfig, axes: Mapping[str, int]) -> float:
    """The fraction of a kind that one device has."""
    axis = axis_of(kind, counts(config)[kind], axes)
    return 1.0 if axis is None else 1.0 / axes[axis]


def param_axes(name: str, config: ModelConfig, axes: Mapping[str, int]) -> tuple[str | None, ...]:
    """The axis that divides each dimension; () for a whole param. name: such as layers.0.ffn.up.kernel."""
    path = name.split(".", 2)[2] if name.startswith("layers.") else name
    return tuple(axis_of(kind, counts(config)[kind], axes) for kind in PARAMS.get(path, ()))


def params_on_device(config: ModelConfig, axes: Mapping[str, int]) -> float:
    """How many numbers of a decoder's params one device holds."""
    sizes = dimensions(config)
    total = held = 0.0
    for path, kinds in PARAMS.items():
        if (path == "head.kernel" and not config.untied_head) or (path.endswith(".bias") and not config.qkv_bias):
            continue
        copies = config.num_layers if path.startswith(("attention.", "ffn.")) else 1
        size = copies * math.prod(sizes[kind] for kind in kinds)
        total += size
        held += size * math.prod(share(kind, config, axes) for kind in kinds)
    return held + config.num_params - total
