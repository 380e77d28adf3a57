"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685, section 4.1): a matrix W becomes W + alpha / rank * A B.

In: the params of a decoder, which stay as they are. Out: adapters, a nested dict with A float32 [in, rank] and
B float32 [rank, out] at the place of each matrix that they add to; and `merged`, plain params that compute the same.
A is drawn as `peft` draws it, B is zero: training starts at the policy that the adapters are added to, bit for bit.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.config.policy import Lora
from scaling.model.layout import PLACES


class Adapter(nnx.Module):
    """What is added to a matrix product."""

    def __init__(self, fan_in: int, fan_out: int, lora: Lora, dtype: str) -> None:
        self.a = nnx.Param(jnp.zeros((fan_in, lora.rank)))
        self.b = nnx.Param(jnp.zeros((lora.rank, fan_out)))
        self.scaling, self.dtype = lora.scaling, dtype

    def __call__(self, rows: jax.Array) -> jax.Array:
        return self.scaling * (rows @ self.a[...].astype(self.dtype)) @ self.b[...].astype(self.dtype)


def add_adapters(decoder: Any, lora: Lora) -> None:
    """Give the targets of every layer an adapter; the values come with the params."""
    for layer in decoder.layers:
        for target in lora.targets:
            part, name = PLACES[target]
            linear = getattr(getattr(layer, part), name)
            fan_in, fan_out = linear.kernel.shape
            linear.adapter = Adapter(fan_in, fan_out, lora, linear.dtype)


def init_adapters(params: Mapping[str, Any], lora: Lora, key: jax.Array) -> dict[str, object]:
    """Fresh adapters for the params of a decoder: A uniform within 1 / sqrt(in), B zero."""
    layers: dict[str, Any] = {}
    for index, layer in params["layers"].items():
        for number, (target, (part, name)) in enumerate(PLACES.items()):
            if target not in lora.targets:
                continue
            fan_in, fan_out = layer[part][name]["kernel"].shape
            drawn = jax.random.fold_in(jax.random.fold_in(key, index), number)
            a = jax.random.uniform(drawn, (fan_in, lora.rank), jnp.float32, -(fan_in**-0.5), fan_in**-0.5)
            adapter = {"a": a, "b": jnp.zeros((lora.rank, fan_out))}
            layers.setdefault(index, {}).setdefault(part, {})[name] = {"adapter": adapter}
    return {"layers": layers}


def joined(params: Mapping[str, Any], adapters: Mapping[str, Any]) -> dict[str, object]:
    """The params with adapters beside the kernels, as a decoder with adapters reads them; nothing is copied."""
    both = dict(params)
    for name, value in adapters.items():
        both[name] = joined(both[name], value) if name in both else value
    return both


def merged(params: Mapping[str, Any], adapters: Mapping[str, Any], lora: Lora) -> dict[str, object]:
    """Plain params that compute what params and adapters compute; matrices without an adapter are shared."""
    both = dict(params)
    for name, value in adapters.items():
        if name == "adapter":
            product = jnp.matmul(value["a"], value["b"], precision="highest")
            both["kernel"] = both["kernel"] + lora.scaling * product
        else:
            both[name] = merged(both[name], value, lora)
    return both
