"""A policy on several devices: which axis of the mesh divides which dimension of which array.

In: the three numbers of a sweep's `resources.mesh`, and the arrays of a policy or a batch. Out: the same arrays,
placed by the table of scaling.model.layout. XLA inserts the communication. Results are those of one device except for
the order of float32 sums.

The mesh is jax's own ambient mesh, which the worker around a stage enters. A stage asks for `placed` arrays and is
otherwise written for one device. Without a mesh these functions change nothing.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling.model.layout import AXES, axis_of, param_axes
from scaling.model.sizes import ModelConfig

ROWS = ("data", "fsdp")  # the axes over which the rows of a batch are divided

Tree = TypeVar("Tree")
dotted = partial(jax.tree_util.keystr, simple=True, separator=".")  # of a param's path in the nested dict


@contextlib.contextmanager
def on_mesh(axes: Mapping[str, int]) -> Iterator[None]:
    """Run the block on a mesh of all devices of all processes; on one device if all sizes are 1.

    axes: the sizes of AXES. Raises ValueError if their product is not the number of devices.
    """
    sizes = tuple(axes[name] for name in AXES)
    wanted, present = int(np.prod(sizes)), jax.device_count()
    if wanted == 1:
        yield
        return
    if wanted != present:
        raise ValueError(
            f"the mesh {' x '.join(f'{name} {axes[name]}' for name in AXES)} has {wanted} devices, but jax sees"
            f" {present} ({jax.default_backend()}, in {jax.process_count()} processes); make resources.mesh fit the"
            " devices of a worker."
        )
    with jax.set_mesh(jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))):
        yield


def param_spec(name: str, config: ModelConfig, axes: Mapping[str, int]) -> P:
    """How a param is divided. name: its dotted path, such as layers.0.ffn.up.kernel; axes: the mesh's sizes."""
    return P(*param_axes(name, config, axes))


def placed_params(params: Tree, config: ModelConfig) -> Tree:
    """The params on the devices of the ambient mesh; a tree of numpy or jax arrays, the same in every process."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        on_device: Tree = jax.tree.map(jax.numpy.asarray, params)
        return on_device
    placed: Tree = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _put(leaf, NamedSharding(mesh, param_spec(dotted(path), config, mesh.shape))), params
    )
    return placed


def constrained_params(params: Tree, config: ModelConfig) -> Tree:
    """Inside jit: arrays of the shape of params, such as gradients, are divided as the params are."""
    return _constrained_as(lambda name, axes: param_spec(name, config, axes), params)


def placed_rows(arrays: Tree) -> Tree:
    """Arrays [B, ...] with their rows divided, each device holding its share; rows that do not divide are repeated.

    Every process passes the whole arrays, and feeds only the rows of its own devices.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return arrays
    placed: Tree = jax.tree.map(
        lambda leaf: _put(leaf, NamedSharding(mesh, row_spec(leaf.shape[0], mesh.shape))), arrays
    )
    return placed


def constrained_rows(array: jax.Array, last: str | None = None) -> jax.Array:
    """Inside jit: an array [B, ...] whose rows are divided; `last` names what its last dimension counts, if any."""
    axes = _ambient_axes()
    if not axes:
        return array
    end = None if last is None else axis_of(last, array.shape[-1], axes)
    middle = (None,) * (array.ndim - 2)
    return _constrained(array, P(*row_spec(array.shape[0], axes), *middle, end))


def looked_up(table: jax.Array, tokens: jax.Array, dtype: str) -> jax.Array:
    """Inside jit: the rows [B, T, D] of the embedding float32 [V, D] at tokens int32 [B, T], as dtype.

    On a mesh every device looks up all tokens in its share of the widths, and then exchanges widths for rows: neither
    the table nor its gradient is ever whole. Cast after the lookup: a token's gradient is summed in float32.
    """
    axes = _ambient_axes()
    if not axes:
        return jnp.take(table, tokens, axis=0).astype(dtype)
    rows = "data" if tokens.shape[0] % axes["data"] == 0 else None
    found = jnp.take(table, _constrained(tokens, P(rows, None)), axis=0).astype(dtype)
    return constrained_rows(_constrained(found, P(rows, None, axis_of("width", table.shape[1], axes))))


def with_own_heads(
    function: Callable[..., jax.Array],
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array | None,
) -> jax.Array:
    """Inside jit: `function(queries, keys, values, mask)`, on each device for its own rows and heads.

    queries [B, T, H, E], which the result is like; keys, values [B, T, H_kv, E]; mask [B, 1, T, T] or None. A kernel
    that XLA cannot see into is not divided by XLA. Key heads fewer than the `tensor` axis are repeated.
    """
    axes = _ambient_axes()
    if not axes:
        return function(queries, keys, values, mask)
    num_heads, num_kv_heads = queries.shape[2], keys.shape[2]
    over = axis_of("heads", num_heads, axes)
    if over is not None and axis_of("kv_heads", num_kv_heads, axes) is None:
        keys, values = (jnp.repeat(array, num_heads // num_kv_heads, axis=2) for array in (keys, values))
    rows = row_spec(queries.shape[0], axes)
    heads = P(*rows, None, over, None)
    divided = jax.shard_map(function, in_specs=(heads, heads, heads, P(*rows)), out_specs=heads)
    mixed: jax.Array = divided(queries, keys, values, mask)
    return mixed


def is_divided() -> bool:
    """Whether there is an ambient mesh."""
    return bool(_ambient_axes())


def vocabulary_shards(vocabulary: int) -> int:
    """The number of parts that a vocabulary is divided into on the ambient mesh."""
    axes = _ambient_axes()
    return axes["tensor"] if axes and axis_of("vocab", vocabulary, axes) else 1


def constrained_shards(array: jax.Array) -> jax.Array:
    """Inside jit: words of the output projection [D, shards, V'], or logits of them [B, T, shards, V'], divided as the
    whole of them is. shards: `vocabulary_shards`."""
    axes = _ambient_axes()
    if not axes:
        return array
    words = "tensor" if array.shape[-2] == axes["tensor"] else None
    if array.ndim == 3:
        spec = P(axis_of("width", array.shape[0], axes), words, None)
    else:
        spec = P(*row_spec(array.shape[0], axes), None, words, None)
    return _constrained(array, spec)


def constrained_stack(params: Tree, config: ModelConfig) -> Tree:
    """Inside jit: the params of several layers [L, ...], each divided as it is in a layer of its own."""
    return _constrained_as(lambda name, axes: P(None, *param_axes(f"layers.0.{name}", config, axes)), params)


def repeated(tree: Tree) -> Tree:
    """Inside jit: arrays that are whole on every device, so that every process can read them."""
    return _constrained(tree, P()) if _ambient_axes() else tree


def row_multiple() -> int:
    """Batches have a multiple of this many rows: the number of devices that rows are divided over."""
    axes = _ambient_axes()
    return axes["data"] * axes["fsdp"] if axes else 1


def whole(tree: Tree) -> Tree:
    """Arrays that this process can read whole, gathered one by one where other processes hold parts of them."""
    if jax.sharding.get_mesh().empty or jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    gathered: Tree = jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True), tree)
    return gathered


def platform() -> str:
    """What computes: the ambient mesh's devices, which may be of an accelerator that is not here, or jax's default."""
    mesh = jax.sharding.get_mesh()
    return jax.default_backend() if mesh.empty else str(mesh.devices.flat[0].platform)


def value_of_first(value: int) -> int:
    """A number, or whether something is so, as the first process sees it: all must do the same, and clocks differ."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def true_for_all(fact: bool) -> bool:
    """Whether every process says so."""
    if jax.process_count() == 1:
        return fact
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(fact)).all())


def _ambient_axes() -> Mapping[str, int]:
    shape: Mapping[str, int] = jax.sharding.get_abstract_mesh().shape
    return shape


def row_spec(num_rows: int, axes: Mapping[str, int]) -> P:
    """Where rows lie on axes of these sizes: divided, or on every device if they do not divide."""
    return P(ROWS) if num_rows % (axes["data"] * axes["fsdp"]) == 0 else P(None)


def _put(leaf: np.ndarray | jax.Array, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if jax.process_count() == 1:
        placed: jax.Array = jax.device_put(leaf, sharding)
        return placed
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _constrained_as(spec: Callable[[str, Mapping[str, int]], P], params: Tree) -> Tree:
    """spec: of a param, by its dotted path, on a mesh of those sizes."""
    axes = _ambient_axes()
    if not axes:
        return params
    constrained: Tree = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _constrained(leaf, spec(dotted(path), axes)), params
    )
    return constrained


def _constrained(tree: Tree, spec: P) -> Tree:
    constrained: Tree = jax.lax.with_sharding_constraint(tree, spec)
    return constrained
