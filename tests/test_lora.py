"""Adapters: nothing at the start, the projection of the full gradient after it, and all of it at full rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from tiny_policy import CONFIG, SHAPES, apply, nll, random_params, random_rows

from scaling.config.policy import Lora
from scaling.model.layout import PLACES
from scaling.model.lora import init_adapters, joined, merged
from scaling.model.policy import flat
from scaling.model.transformer import architecture
from scaling.training.update import OptimizerSettings, init_state, make_update

LORA = Lora(rank=3, alpha=7.0)
TOKENS = random_rows(0)["tokens"]
MATRICES = tuple(".".join(place) for place in PLACES.values())


def fresh(params, lora=LORA, seed=0):
    return init_adapters(params, lora, jax.random.key(seed))


def moved(adapters, seed=0):
    """Adapters as training leaves them: B is not zero."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape).astype(np.float32), adapters)


def adapted(params, adapters, lora=LORA) -> np.ndarray:
    return np.asarray(jax.jit(architecture(CONFIG, lora).apply)(joined(params, adapters), TOKENS))


def settings(learning_rate: float) -> OptimizerSettings:
    return OptimizerSettings(*map(jnp.float32, (learning_rate, 0.0, 1e9)))


def test_training_starts_at_the_policy_it_adapts_bit_for_bit():
    params = random_params(0)
    adapters = fresh(params)
    expected = np.asarray(apply(params, TOKENS))
    np.testing.assert_array_equal(adapted(params, adapters), expected)
    np.testing.assert_array_equal(apply(merged(params, adapters, LORA), TOKENS), expected)


@pytest.mark.parametrize("targets", [tuple(PLACES), ("query", "value"), ("down",)])
def test_merged_params_compute_what_adapters_compute(targets):
    params, lora = random_params(0), Lora(rank=3, alpha=7.0, targets=targets)
    adapters = moved(fresh(params, lora))
    together = merged(params, adapters, lora)
    logits = adapted(params, adapters, lora)
    # As for the decoder itself: the addition is small beside the matrices, whose spread the tolerance is made for.
    np.testing.assert_allclose(apply(together, TOKENS), logits, atol=2e-5, rtol=0)
    assert np.abs(logits - apply(params, TOKENS)).max() > 0.1
    changed = {name for name, leaf in flat(together).items() if leaf is not flat(params)[name]}
    expected = {f"layers.{layer}.{'.'.join(PLACES[target])}.kernel" for layer in (0, 1) for target in targets}
    assert changed == expected  # the others are shared, not copied


def test_the_gradient_is_the_projection_of_the_full_one():
    """W + s A B: dL/dA = s dL/dW B', dL/dB = s A' dL/dW, dL/dW that of the merged params."""
    params = random_params(0)
    adapters, rows = moved(fresh(params)), random_rows(0)

    def loss(apply, params):
        return nll(apply, params, rows)["loss"].total

    full = jax.jit(jax.grad(lambda params: loss(architecture(CONFIG).apply, params)))(merged(params, adapters, LORA))
    both = jax.jit(jax.grad(lambda tree: loss(architecture(CONFIG, LORA).apply, joined(params, tree))))(adapters)
    for index in (0, 1):
        for part, name in PLACES.values():
            of_matrix = np.asarray(full["layers"][index][part][name]["kernel"], np.float64)
            adapter, found = (tree["layers"][index][part][name]["adapter"] for tree in (adapters, both))
            a, b = np.asarray(adapter["a"], np.float64), np.asarray(adapter["b"], np.float64)
            expected = {"a": LORA.scaling * of_matrix @ b.T, "b": LORA.scaling * a.T @ of_matrix}
            for leaf, value in expected.items():
                # Sums of 44 learned tokens' gradients in float32, as in tests/test_update.py.
                np.testing.assert_allclose(found[leaf], value, atol=1e-4 * np.abs(value).max(), rtol=0)


def test_at_full_rank_the_first_update_is_that_of_training_the_matrix():
    """A = 1, B = 0 and scaling 1: dL/dB = dL/dW and dL/dA = 0, so Adam moves A B as it moves W."""
    params, rows = random_params(0), random_rows(0)
    width = CONFIG.width
    lora = Lora(rank=width, alpha=float(width), targets=("query", "gate", "up"))
    adapters = fresh(params, lora)
    for _, leaf in jax.tree_util.tree_leaves_with_path(adapters):
        assert width in leaf.shape
    one = jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.eye(width) if path[-1].key == "a" else leaf, adapters)
    whole, _ = make_update(CONFIG, nll)(init_state(params), [rows], {}, settings(1e-2))
    partial, _ = make_update(CONFIG, nll, lora)(init_state(one), [rows], {}, settings(1e-2), params)
    together, theirs = flat(merged(params, partial.params, lora)), flat(whole.params)
    for name in (name for name in together if name.endswith(("query.kernel", "gate.kernel", "up.kernel"))):
        # Gradients that differ in their last bits: Adam's direction is their sign where they are not tiny.
        apart = np.abs(np.asarray(together[name]) - np.asarray(theirs[name]))
        assert np.median(np.abs(np.asarray(theirs[name]) - np.asarray(flat(params)[name]))) > 0.009
        assert np.quantile(apart, 0.99) < 1e-5, name


def test_an_update_moves_adapters_only_and_keeps_nothing_of_the_frozen_params():
    params, adapters = random_params(0), fresh(random_params(0))
    before = jax.tree.map(np.array, params)
    update, state = make_update(CONFIG, nll, LORA), init_state(adapters)
    for index in range(2):
        state, _ = update(state, [random_rows(index)], {}, settings(1e-2), params)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    for start, end in zip(jax.tree.leaves(adapters), jax.tree.leaves(state.params), strict=True):
        assert np.abs(np.asarray(end) - np.asarray(start)).max() > 1e-3
    num_trained = sum(leaf.size for leaf in jax.tree.leaves(adapters))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer_state)) == 2 * num_trained + 1  # and Adam's count
    assert num_trained < sum(leaf.size for leaf in jax.tree.leaves(params))


def test_fresh_adapters_depend_on_key_layer_and_target_alone():
    params = random_params(0)
    first, again, other = fresh(params), fresh(random_params(1)), fresh(params, seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    fewer = fresh(params, Lora(rank=3, targets=("up",)))["layers"][1]["ffn"]["up"]["adapter"]
    np.testing.assert_array_equal(fewer["a"], first["layers"][1]["ffn"]["up"]["adapter"]["a"])
    drawn = [leaf for tree in (first, other) for name, leaf in flat(tree).items() if name.endswith(".a")]
    assert len({leaf.tobytes() for leaf in map(np.asarray, drawn)}) == len(drawn) == 4 * len(PLACES)
    assert not any(np.any(leaf) for name, leaf in flat(first).items() if name.endswith(".b"))


def test_every_matrix_of_a_layer_can_be_a_target():
    kernels = {name.split(".", 2)[2].removesuffix(".kernel") for name in flat(SHAPES) if name.endswith(".kernel")}
    assert kernels == set(MATRICES)
    assert set(Lora().targets) == set(PLACES)


@pytest.mark.parametrize("wrong", [{"targets": ["up", "up"]}, {"targets": []}, {"targets": ["norm"]}, {"rank": 0}])
def test_targets_are_known_and_named_once_and_a_rank_is_above_zero(wrong):
    with pytest.raises(ValidationError):
        Lora.model_validate(wrong)
