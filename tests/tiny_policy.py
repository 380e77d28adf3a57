"""A policy small enough for tests: two layers, width 16, vocabulary 32, four query heads on two key heads."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.model.sizes import ModelConfig
from scaling.model.transformer import Params, architecture
from scaling.training.logps import token_logps
from scaling.training.update import Sum, Sums

# head_width is not width / num_heads, so that a test fails where one is taken for the other.
CONFIG = ModelConfig(vocab_size=32, width=16, num_layers=2, num_heads=4, num_kv_heads=2, head_width=6, ffn_width=24)
TINY = architecture(CONFIG)
SHAPES = jax.eval_shape(TINY.init, jax.random.key(0))
apply = jax.jit(TINY.apply)


def random_params(seed: int, shapes: Params = SHAPES) -> Params:
    """Params as spread as fresh ones, with scales moved away from 1 and biases from 0: none can be left out unseen.

    Drawn with numpy: nothing to compile.
    """
    generator = np.random.default_rng(seed)

    def draw(path, leaf) -> jax.Array:
        normal = generator.normal(size=leaf.shape)
        name = path[-1].key
        fan_in = leaf.shape[1] if name == "embedding" else leaf.shape[0]
        values = {"scale": np.exp(0.3 * normal), "bias": 0.5 * normal}.get(name, normal * fan_in**-0.5)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def nll(apply, params: Params, batch) -> Sums:
    """Negative log-likelihood per masked token; one object for all tests, so that they share compiled updates."""
    weights = batch["mask"] * batch["weight"][:, None]
    logps = token_logps(apply(params, batch["tokens"]), batch["tokens"])
    return {"loss": Sum(-jnp.sum(logps * weights), jnp.sum(weights))}


def random_rows(seed: int) -> dict[str, np.ndarray]:
    """Eight rows with 1 to 12 learned tokens each: a mean of row or micro-batch means would differ from the mean."""
    learned = np.array([1, 12, 2, 9, 1, 3, 11, 5])[:, None]
    mask = (np.arange(16) >= 3) & (np.arange(16) < 3 + learned)
    tokens = np.random.default_rng(seed).integers(3, CONFIG.vocab_size, (8, 16)).astype(np.int32)
    return {"tokens": tokens, "mask": mask.astype(np.float32), "weight": np.ones(8, np.float32)}


def cut(batch: dict[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Micro-batches of `size` rows."""
    starts = range(0, len(batch["weight"]), size)
    return [{name: array[start : start + size] for name, array in batch.items()} for start in starts]
