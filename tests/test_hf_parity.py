"""Checkpoints of every supported architecture against `transformers` with torch: logits in, and logits out again."""

import numpy as np
import pytest
from tiny_policy import CONFIG, random_params

from scaling.model.policy import Policy
from scaling.model.transformer import architecture
from scaling.pretrained.hf import load_checkpoint, save_checkpoint

torch = pytest.importorskip("torch", reason="the oracle needs torch; install the extra: pip install -e '.[hf,oracle]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf,oracle]'")

from tiny_checkpoint import ARCHITECTURES, TOKENS, logits_of, model_of  # noqa: E402 (it imports torch)

# Both sum in float32, in another order; logits are of order 1. A part left out is off by 1e-2 or more.
TOLERANCE = 1e-4


def ours(policy: Policy) -> np.ndarray:
    return np.asarray(architecture(policy.config).apply(policy.params, TOKENS))


def in_float32(folder):
    """The oracle of a saved checkpoint. A model turned to bfloat16 and back would keep rotary tables rounded."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_equal_those_of_transformers_and_come_back_through_an_export(name, tmp_path):
    model = model_of(name)
    expected = logits_of(model)
    assert 0.3 < expected.std() < 3.0
    model.save_pretrained(tmp_path / "theirs")
    policy = load_checkpoint(tmp_path / "theirs")
    np.testing.assert_allclose(ours(policy), expected, atol=TOLERANCE, rtol=0)
    assert policy.config.num_params == sum(weight.numel() for weight in model.parameters())

    (tmp_path / "ours").mkdir()
    save_checkpoint(policy, tmp_path / "ours")
    again = in_float32(tmp_path / "ours")
    assert type(again) in (type(model), transformers.LlamaForCausalLM)  # without a window Mistral is Llama
    np.testing.assert_array_equal(logits_of(again), expected)  # the same weights in the same program
    back = load_checkpoint(tmp_path / "ours")
    assert back.config == policy.config
    np.testing.assert_array_equal(ours(back), ours(policy))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_weights_are_read_exactly(dtype, tmp_path):
    model_of("qwen2").to(getattr(torch, dtype)).save_pretrained(tmp_path)
    policy = load_checkpoint(tmp_path)
    np.testing.assert_allclose(ours(policy), logits_of(in_float32(tmp_path)), atol=TOLERANCE, rtol=0)
    assert policy.params["embedding"]["embedding"].dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_are_read_as_one_checkpoint(dtype, tmp_path):
    model_of("llama 3").to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    expected = logits_of(in_float32(tmp_path))
    np.testing.assert_allclose(ours(load_checkpoint(tmp_path)), expected, atol=TOLERANCE, rtol=0)


def test_transformers_reads_the_shards_that_are_written(tmp_path):
    model = model_of("llama 3")
    model.save_pretrained(tmp_path)
    (tmp_path / "shards").mkdir()
    save_checkpoint(load_checkpoint(tmp_path), tmp_path / "shards", shard_bytes=10_000)
    sizes = [path.stat().st_size for path in (tmp_path / "shards").glob("model-*.safetensors")]
    assert len(sizes) > 3 and max(sizes) < 12_000  # of which the header is under 2,000
    np.testing.assert_array_equal(logits_of(in_float32(tmp_path / "shards")), logits_of(model))


def test_an_embedded_policy_is_a_llama_for_transformers(tmp_path):
    policy = Policy(random_params(0), CONFIG)
    save_checkpoint(policy, tmp_path)
    model = in_float32(tmp_path)
    assert type(model) is transformers.LlamaForCausalLM
    tokens = TOKENS % CONFIG.vocab_size
    logits = np.asarray(architecture(CONFIG).apply(policy.params, tokens))
    np.testing.assert_allclose(logits_of(model, tokens), logits, atol=TOLERANCE, rtol=0)
