"""Implementations of attention: the same logits and gradients, how cuDNN's is called, and what is refused."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from jax._src.cudnn import fused_attention_stablehlo
from one_run import by_kind, cell_of
from test_bfloat16 import TOLERANCE as HALF_TOLERANCE
from test_bfloat16 import error_of
from test_packing import DEEP, PACKED, SMALL, random_sequences, summed
from tiny_policy import CONFIG, random_params
from toy_stages import toy

from algorithms import pretrain, sft
from scaling.compile import main as compile_main
from scaling.config.errors import ConfigError
from scaling.config.memory import Memory
from scaling.engine.store import Store
from scaling.engine.worker import run_stage
from scaling.lowering import _call, lowered
from scaling.model.layout import ONE_DEVICE
from scaling.model.memory_need import scoring_memory, training_memory
from scaling.model.policy import SHAPE_FILE, Policy, load_policy, save_policy
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.programs import Program
from scaling.training.memory_settings import using_memory

# float32 sums of a few dozen terms in another order, through two layers (ten of the deep one) and their gradients.
TOLERANCE = 1e-5  # of the largest number of an array
CONFIGS = {
    "grouped": (CONFIG, False),
    "one key head, window, remat": (replace(CONFIG, num_kv_heads=1, sliding_window=5), True),
    "a key head each, window of all": (replace(CONFIG, num_kv_heads=4, sliding_window=16), False),
    "scanned, window, remat": (replace(DEEP, sliding_window=5), True),
}
PROMPTS, STARTS = np.random.default_rng(1).integers(3, 32, (4, 8)).astype(np.int32), np.array([0, 3, 7, 6], np.int32)


def by_xla(config: ModelConfig) -> ModelConfig:
    return replace(config, attention="xla")


def params_of(config: ModelConfig):
    return random_params(0, jax.eval_shape(architecture(config).init, jax.random.key(0)))


def assert_same(found, expected):
    def same(one, other):
        np.testing.assert_allclose(one, other, atol=TOLERANCE * max(1.0, float(np.abs(other).max())), rtol=0)

    jax.tree.map(same, found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_gradients_are_those_of_the_einsum(name):
    config, remat = CONFIGS[name]
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (3, 16)).astype(np.int32)
    weights = np.random.default_rng(1).normal(size=(3, 16, 1)).astype(np.float32)

    def found(config):
        def total(params):
            logits = architecture(config).apply(params, tokens, remat)
            return jnp.sum(jax.nn.log_softmax(logits)[..., :3] * weights), logits

        (_, logits), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params_of(config))
        return logits, gradient

    assert_same(found(by_xla(config)), found(config))


@pytest.mark.parametrize("window", [None, 5])
def test_a_left_padded_prompt_has_the_logits_and_the_cache_of_the_einsum(window):
    config = replace(CONFIG, sliding_window=window)
    of_prompts = [architecture(one).prefill(params_of(one), PROMPTS, STARTS, 8) for one in (by_xla(config), config)]
    (logits, caches), (expected, expected_caches) = of_prompts
    assert_same(logits, expected)
    seen = (np.arange(8) >= STARTS[:, None])[:, None, None]  # what stands in the padding is never looked at
    for one, other in zip(caches, expected_caches, strict=True):
        assert_same(one.keys * seen, other.keys * seen)
        assert_same(one.values * seen.swapaxes(2, 3), other.values * seen.swapaxes(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("config", "remat"), [(SMALL, False), (replace(DEEP, sliding_window=5), True)])
def test_packed_rows_have_the_loss_and_gradient_of_the_einsum(config, remat):
    rows = random_sequences(9)
    arrays = {"tokens": rows.tokens, "mask": rows.mask}
    *found, packed = summed(by_xla(config), sft.nll, arrays, rows.lengths, PACKED, remat)
    *expected, _ = summed(config, sft.nll, arrays, rows.lengths, PACKED, remat)
    assert packed > 1
    assert_same(found, expected)


def test_in_bfloat16_logits_stay_near_those_in_float32():
    tokens = np.random.default_rng(0).integers(0, 32, (4, 16)).astype(np.int32)
    half = by_xla(replace(CONFIG, bfloat16=True))
    logits, expected = (jax.jit(architecture(one).apply)(random_params(0), tokens) for one in (half, CONFIG))
    assert 1e-4 < error_of(logits, expected) < HALF_TOLERANCE


def test_by_default_the_queries_of_a_group_are_rows_of_one_product():
    program = Program("scoring", CONFIG, (1, 1, 1), rows=2, length=16)
    product = f"tensor<2x2x{2 * 16}x6xf32>, tensor<2x2x16x6xf32>"  # two key heads, each with two heads' queries
    texts = [lowered(replace(program, shape=shape)).as_text() for shape in (CONFIG, by_xla(CONFIG))]
    assert [product in text for text in texts] == [True, False]


# cuDNN's, which needs a GPU: the program for one is made here, and nothing of it is run.

HALF = ModelConfig(64, 32, 2, 4, 2, 8, 48, bfloat16=True, attention="cudnn")
LARGE = replace(HALF, vocab_size=4160, num_layers=10, untied_head=True)
UPDATE = Program("training", HALF, (1, 1, 1), rows=8, length=16, remat=True)
CHUNK = Program("sampling", HALF, (1, 1, 1), rows=128, length=16, prompts=16, new_tokens=8)
SHARED = Program("training", LARGE, (1, 1, 1), rows=8, length=64, batch=16, longest_sequence=24)
PLAIN, MASKED = ([f"__cudnn$fmha{name}Softmax", f"__cudnn$fmha{name}SoftmaxBackward"] for name in ("", "ScaleBias"))


@pytest.fixture
def has_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91_002)


@pytest.mark.parametrize(
    ("program", "window", "called", "width"),
    [
        (UPDATE, None, PLAIN, 0),
        (UPDATE, 5, PLAIN, 5),
        (UPDATE, 16, PLAIN, 0),  # no narrower than the rows
        (replace(UPDATE, shape=LARGE), 5, PLAIN, 5),
        (SHARED, None, MASKED, 0),
        (SHARED, 5, MASKED, 0),  # the mask holds the window
        (CHUNK, 5, MASKED[:1], 0),
    ],
    ids=["update", "window", "window of all", "scanned", "packed", "packed window", "prefill"],
)
def test_a_program_for_a_gpu_calls_cudnn_with_causality_and_window_and_a_mask_where_it_needs_one(
    has_gpu, program, window, called, width
):
    program = replace(program, shape=replace(program.shape, sliding_window=window))
    call, arguments = _call(program)
    text = call.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert sorted(set(re.findall(r"__cudnn\$\w+", text))) == called
    assert set(re.findall(r"mask_type\\22: \\22(\w+)", text)) == {"CAUSAL"}
    assert set(re.findall(r"sliding_window_length\\22: (\d+)", text)) == {str(width)}
    logits = f"{program.shape.num_heads}x{program.length}x{program.length}x"
    assert logits not in text  # of neither pass: no array [H, T, T]


def test_no_logits_are_counted_for_cudnn():
    kept, none = (replace(LARGE, attention=name) for name in ("einsum", "cudnn"))
    heads, layers, length = 4, 10, 64
    counts = [training_memory(one, ONE_DEVICE, 2, length)["activations"] for one in (kept, none)]
    logits = 3 * layers * 4 * heads * length  # bytes for a token
    sums_and_mask = layers * 4 * heads + 2 * 2 * length
    assert counts[0] - counts[1] == 2 * length * (logits - sums_and_mask)
    forward = [scoring_memory(one, ONE_DEVICE, 2, length)["activations"] for one in (kept, none)]
    assert forward[0] - forward[1] == 2 * length * (2 * 4 * heads * length - 2 * length)
    assert training_memory(by_xla(LARGE), ONE_DEVICE, 2, length) == training_memory(kept, ONE_DEVICE, 2, length)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (HALF, r"memory\.attention is 'cudnn', but jax computes on a cpu here; .*\{gpu: 1\}\), or set .*: xla"),
        (replace(HALF, bfloat16=False), r"is 'cudnn', but the policy computes in float32; .*compute_dtype: bfloat16"),
        (replace(HALF, head_width=12), r"a head of the policy is 12 wide; .*a multiple of 8 up to 256 .*: xla"),
    ],
    ids=["cpu", "float32", "head"],
)
def test_what_cudnn_cannot_do_is_refused_when_the_stage_first_needs_it(config, expected):
    params = jax.eval_shape(architecture(config).init, jax.random.key(0))
    with pytest.raises((ValueError, RuntimeError), match=expected):
        jax.eval_shape(architecture(config).apply, params, np.zeros((1, 8), np.int32))


SWEEP = {
    "question": "Which is better?",
    "policy": {"compute_dtype": "bfloat16"},
    "grid": {"algorithm": ["sft", "rft"], "data_size": [64]},
    "seeds": [0],
    "memory": {"attention": "cudnn"},
    "resources": {"train": {"gpu": 1}, "rollouts": {"gpu": 0.5}},
}


def written(tmp_path, **changes):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    return path


def test_a_sweep_for_cudnn_says_that_it_computes_in_bfloat16_on_gpus(tmp_path):
    assert load_sweep(written(tmp_path)).memory.attention == "cudnn"
    float32 = written(tmp_path, grid=SWEEP["grid"] | {"policy.compute_dtype": ["bfloat16", "float32"]}, policy={})
    with pytest.raises(ConfigError, match=r"is 'cudnn', but policy\.compute_dtype is 'float32'; .*bfloat16, or take"):
        load_sweep(float32)
    on_cpu = written(tmp_path, resources={"train": {"gpu": 1}})
    with pytest.raises(ConfigError, match=r"resources\.rollouts is \{cpu: 1\}; cuDNN needs an NVIDIA GPU: ask for"):
        load_sweep(on_cpu)
    server = {"endpoint": "http://localhost:8000/v1", "model": "policy"}
    load_sweep(written(tmp_path, resources={"train": {"gpu": 1}}, sampler=server))  # which samples
    load_sweep(written(tmp_path, resources={}, policy={}, memory={"attention": "xla"}))


def test_a_tpus_compiler_is_not_asked_for_cudnn(tmp_path, capsys):
    assert compile_main([str(written(tmp_path)), "--topology", "v5e:2x4"]) == 2
    assert "memory.attention is 'cudnn', which a TPU does not have" in capsys.readouterr().err


# The setting of a worker.


def test_a_policy_that_is_read_or_made_has_the_implementation_in_force_and_is_written_without_it(tmp_path):
    config, texts = by_kind(cell_of("sft"))["pretrain"].config | {"seed": 0}, []
    for name in ("einsum", "xla"):
        out = tmp_path / name
        out.mkdir()
        with using_memory(Memory(attention=name)):
            fresh = pretrain._fresh(config, 0)
            save_policy(Policy(random_params(0), replace(CONFIG, attention=name)), out)
            assert fresh.config.attention == load_policy(out).config.attention == name
        texts.append((out / SHAPE_FILE).read_text())
    assert texts[0] == texts[1] and "attention" not in json.loads(texts[0])
    assert load_policy(tmp_path / "xla").config == CONFIG


def test_a_record_names_the_settings_that_were_not_the_usual_ones(tmp_path):
    store, runners = Store(tmp_path), {"toy": lambda config, inputs, out: {}}
    plain = run_stage(toy("plain"), store, runners)
    other = run_stage(toy("other"), store, runners, memory=Memory(attention="xla", packing=True))
    assert "memory" not in plain.record["provenance"]
    assert other.record["provenance"]["memory"] == {"attention": "xla"}


@pytest.mark.parametrize(("bfloat16", "precision"), [(False, "HIGHEST"), (True, "DEFAULT")])
def test_products_of_float32_numbers_have_the_precision_of_the_policys_type(bfloat16, precision):
    shape = by_xla(replace(LARGE, bfloat16=bfloat16))
    accumulate = replace(UPDATE, shape=shape, remat=False)
    with jax.default_matmul_precision("highest"):
        text = lowered(accumulate).as_text()
    products = re.findall(r"dot_general.*precision = \[(\w+), \w+\].* : \(tensor<\w+xf32>, tensor", text)
    assert set(products) == {precision}
