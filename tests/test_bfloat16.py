"""Computing in bfloat16: near float32 in results, float32 in what is kept, alike in training and sampling."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_policy import CONFIG, TINY, apply, nll, random_params, random_rows

from scaling.model.policy import Policy, load_policy, save_policy
from scaling.model.sampling import row_keys, sample
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.training.logps import completion_logps
from scaling.training.update import OptimizerSettings, init_state, make_update

HALF = replace(CONFIG, bfloat16=True)
MODEL = architecture(HALF)
apply_half = jax.jit(MODEL.apply)
# bfloat16 keeps 8 bits: a rounding is 2^-9 of a number, 0.002. A logit passes some dozen roundings, of the residual
# stream and of each product's operands, in random directions: 0.002 x sqrt(50) = 0.014 of a logit's standard deviation.
TOLERANCE = 0.03  # of the root mean square; errors have long tails
LOSS_TOLERANCE = 0.005  # relative; a loss is a mean over dozens of logits, whose errors cancel


def settings() -> OptimizerSettings:
    return OptimizerSettings(*map(jnp.float32, (1e-3, 0.0, 1.0)))


def error_of(logits, expected) -> float:
    """Root mean square of the difference over the standard deviation of what is expected."""
    return float(np.sqrt(np.mean((np.asarray(logits) - np.asarray(expected)) ** 2)) / np.std(expected))


def equations(jaxpr):
    """Every primitive's application, those inside of others included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                if hasattr(inner, "jaxpr"):
                    yield from equations(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("seed", range(3))
def test_logits_are_float32_and_near_those_computed_in_float32(seed):
    params, tokens = random_params(seed), random_rows(seed)["tokens"]
    logits, expected = np.asarray(apply_half(params, tokens)), np.asarray(apply(params, tokens))
    assert logits.dtype == np.float32
    assert 1e-4 < error_of(logits, expected) < TOLERANCE  # and it is another computation


def test_losses_over_training_stay_near_those_in_float32_with_float32_params_that_move():
    losses, states = {}, {}
    for config in (CONFIG, HALF):
        update, state = make_update(config, nll), init_state(random_params(0))
        losses[config] = []
        for index in range(6):
            state, sums = update(state, [random_rows(index)], {}, settings())
            losses[config].append(float(sums["loss"].total) / float(sums["loss"].count))
        states[config] = state
    np.testing.assert_allclose(losses[HALF], losses[CONFIG], rtol=LOSS_TOLERANCE)
    kept = (states[HALF].params, states[HALF].optimizer_state.mu, states[HALF].optimizer_state.nu)
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    for start, end in zip(jax.tree.leaves(random_params(0)), jax.tree.leaves(states[HALF].params), strict=True):
        # Six updates of 0.001 are less than a bfloat16 rounding of most entries: master weights hold them.
        assert 1e-3 < np.abs(np.asarray(end) - np.asarray(start)).max() < 6.1e-3


def test_products_are_in_bfloat16_and_norms_softmax_and_sums_in_float32():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    rows = random_rows(0)

    def loss(params):
        return nll(MODEL.apply, params, rows)["loss"].total

    found = list(equations(jax.make_jaxpr(jax.grad(loss))(shapes).jaxpr))
    products = [equation for equation in found if equation.primitive.name == "dot_general"]
    assert len(products) == 3 * (
        2 * (7 + 2) + 1
    )  # forward and twice backward: 7 matrices and attention's 2, and logits
    forward = products[: 2 * (7 + 2) + 1]
    assert {str(given.aval.dtype) for equation in forward for given in equation.invars} == {"bfloat16"}
    delicate = ("exp", "log", "rsqrt", "cos", "sin", "reduce_sum", "reduce_max", "scatter-add")
    inputs = {str(equation.invars[0].aval.dtype) for equation in found if equation.primitive.name in delicate}
    assert inputs == {"float32"}


def test_the_cache_is_in_bfloat16_and_decoding_near_the_full_pass():
    params, tokens = random_params(0), random_rows(0)["tokens"]
    starts = np.zeros(8, np.int32)
    logits, caches = jax.jit(MODEL.prefill, static_argnums=3)(params, tokens[:, :12], starts, 16)
    assert {leaf.dtype for leaf in jax.tree.leaves(caches)} == {jnp.dtype("bfloat16")}
    expected, decode = np.asarray(apply_half(params, tokens)), jax.jit(MODEL.decode)
    for slot in range(12, 16):
        assert error_of(logits, expected[:, slot - 1]) < TOLERANCE
        logits, caches = decode(params, tokens[:, slot], jnp.int32(slot), starts, caches)


def test_params_cast_before_a_loop_compute_the_same_bit_for_bit():
    params, tokens, starts = random_params(0), random_rows(0)["tokens"], np.zeros(8, np.int32)
    cast = MODEL.cast(params)
    dtypes = {leaf.dtype: path[-1].key for path, leaf in jax.tree_util.tree_leaves_with_path(cast)}
    assert {str(dtype): key for dtype, key in dtypes.items()}["float32"] == "scale"
    assert len(dtypes) == 2
    prefill = jax.jit(MODEL.prefill, static_argnums=3)
    jax.tree.map(np.testing.assert_array_equal, prefill(cast, tokens, starts, 16), prefill(params, tokens, starts, 16))
    jax.tree.map(lambda ours, given: ours is given or pytest.fail("copied"), TINY.cast(params), params)


def test_sampled_logps_are_near_those_of_training():
    params, prompts = random_params(0), [[3, 4, 5], [6, 7], [8]]
    keys = row_keys(jax.random.key(0), np.arange(3, dtype=np.uint32)[:, None])
    sampled = sample(params, HALF, prompts, keys, [6] * 3, 1.0)
    tokens, mask = np.zeros((3, 16), np.int32), np.zeros((3, 16), np.float32)
    for row, (prompt, length) in enumerate(zip(prompts, sampled.lengths, strict=True)):
        tokens[row, : len(prompt) + length] = [*prompt, *sampled.tokens[row, :length]]
        mask[row, len(prompt) : len(prompt) + length] = 1
    expected = completion_logps(apply_half(params, tokens), tokens, mask)
    # Six tokens of logits whose standard deviation is about one, in each of two computations.
    np.testing.assert_allclose(sampled.logps, expected, atol=6 * TOLERANCE, rtol=0)
    assert np.all(sampled.lengths > 0)


def test_the_dtype_is_written_with_the_shape_and_float32_is_not(tmp_path):
    save_policy(Policy(random_params(0), HALF), tmp_path)
    policy = load_policy(tmp_path)
    assert policy.config == HALF and policy.config.compute_dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(policy.params)} == {jnp.dtype("float32")}
    assert "bfloat16" not in CONFIG.as_json() and ModelConfig.from_json(CONFIG.as_json()) == CONFIG
