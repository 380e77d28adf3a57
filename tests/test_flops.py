"""The FLOPs counter agrees with XLA's own count of the compiled programs, and with arithmetic."""

import jax
import jax.numpy as jnp
import pytest

from scaling.config.policy import Lora
from scaling.model.flops import attention_flops, forward_flops, sampling_flops, token_flops, training_flops
from scaling.model.lora import init_adapters, joined
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.training.logps import token_logps

# Width 64, where products dominate. XLA also counts norms, softmax, rotary and SwiGLU's elementwise work, which the
# counter leaves out: per token they grow with D, products with D^2; here they are 2 to 3 %. XLA must therefore count
# more, by at most 5 %. Leaving out attention (8 %) or the output projection (4 % or more of any pass) would show.
CONFIG = ModelConfig(vocab_size=64, width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_width=16, ffn_width=176)
ELEMENTWISE = 1.05
ROWS, LENGTH = 4, 32


@pytest.fixture(scope="module")
def params():
    return jax.eval_shape(architecture(CONFIG).init, jax.random.key(0))


def counted_by_xla(function, *shapes) -> float:
    return jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"]


def test_forward_flops_agree_with_xla(params):
    tokens = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    counted = counted_by_xla(architecture(CONFIG).apply, params, tokens)
    assert 1.0 < counted / forward_flops(CONFIG, [LENGTH] * ROWS) < ELEMENTWISE


def test_training_flops_agree_with_xla(params):
    def loss(params, tokens):
        return token_logps(architecture(CONFIG).apply(params, tokens), tokens).sum()

    tokens = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    counted = counted_by_xla(jax.grad(loss), params, tokens)
    assert 1.0 < counted / training_flops(CONFIG, [LENGTH] * ROWS) < ELEMENTWISE


@pytest.mark.parametrize("targets", [("query", "value"), ("query", "key", "value", "output", "gate", "up", "down")])
def test_training_flops_of_adapters_agree_with_xla(params, targets):
    lora = Lora(rank=8, targets=targets)
    adapters = jax.eval_shape(lambda params: init_adapters(params, lora, jax.random.key(0)), params)

    def loss(adapters, params, tokens):
        return token_logps(architecture(CONFIG, lora).apply(joined(params, adapters), tokens), tokens).sum()

    tokens = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    counted = counted_by_xla(jax.grad(loss), adapters, params, tokens)
    # The first layer's input needs no gradient, so XLA leaves out its products; elementwise work weighs more here.
    assert 0.9 < counted / training_flops(CONFIG, [LENGTH] * ROWS, lora) < 1.1
    assert training_flops(CONFIG, [LENGTH], lora) < 0.95 * training_flops(CONFIG, [LENGTH])


def test_the_flops_of_one_cached_token_agree_with_xla(params):
    model, num_slots = architecture(CONFIG), 32
    prompts, starts = jax.ShapeDtypeStruct((ROWS, 8), jnp.int32), jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    _, caches = jax.eval_shape(lambda *given: model.prefill(*given, num_slots), params, prompts, starts)
    counted = counted_by_xla(model.decode, params, starts, jax.ShapeDtypeStruct((), jnp.int32), starts, caches)
    assert 1.0 < counted / (ROWS * (token_flops(CONFIG) + attention_flops(CONFIG, 1, num_slots))) < ELEMENTWISE


def test_one_token_costs_two_flops_per_parameter_it_meets():
    norms = (2 * CONFIG.num_layers + 1) * CONFIG.width
    assert token_flops(CONFIG) == 2 * (CONFIG.num_params - norms)  # the embedding meets it as output projection


def test_attention_is_two_products_in_every_layer():
    per_query_and_key = 2 * (2 * CONFIG.num_heads * CONFIG.head_width) * CONFIG.num_layers
    assert attention_flops(CONFIG, 3, 5) == 15 * per_query_and_key


def test_a_batch_costs_the_sum_of_its_rows_without_padding():
    assert forward_flops(CONFIG, [3, 30]) == forward_flops(CONFIG, [3]) + forward_flops(CONFIG, [30])
    assert training_flops(CONFIG, [3, 30]) == 3 * forward_flops(CONFIG, [3, 30])
    assert forward_flops(CONFIG, []) == 0


def test_sampling_is_a_forward_pass_of_the_prompt_and_one_query_a_token_over_what_is_cached():
    prompt, new = 5, 3
    one_by_one = sum(token_flops(CONFIG) + attention_flops(CONFIG, 1, prompt + i) for i in (1, 2, 3))
    assert sampling_flops(CONFIG, [prompt], [new]) == pytest.approx(forward_flops(CONFIG, [prompt]) + one_by_one)
    with pytest.raises(ValueError):
        sampling_flops(CONFIG, [5, 6], [3])
