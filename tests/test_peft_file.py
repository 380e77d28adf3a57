"""Adapters as `peft` reads them: the same logits as ours, added and merged, of one training and of two in a row."""

import jax
import numpy as np
import pytest

from scaling.config.policy import Lora
from scaling.model.lora import init_adapters, merged
from scaling.model.policy import Adapters
from scaling.model.transformer import architecture
from scaling.pretrained.hf import load_checkpoint
from scaling.pretrained.peft_file import save_peft

peft = pytest.importorskip("peft", reason="the oracle needs peft; install the extra: pip install -e '.[hf,oracle]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf,oracle]'")

from tiny_checkpoint import TOKENS, logits_of, model_of  # noqa: E402 (it imports torch)

# peft asks transformers for a property by its older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
TOLERANCE = 1e-5  # float32 sums in another order, of logits of order 1; an adapter left out is off by 0.1 or more


def trained(params, lora: Lora, seed: int) -> Adapters:
    """Adapters as training leaves them: B is not zero."""
    generator = np.random.default_rng(seed)
    fresh = init_adapters(params, lora, jax.random.key(seed))
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape).astype(np.float32), fresh)
    return Adapters(moved, lora)


@pytest.mark.parametrize("name", ["llama 3.2, tied", "qwen2.5", "qwen3"])
@pytest.mark.parametrize("number", [1, 2])
def test_peft_adds_and_merges_to_our_logits(name, number, tmp_path):
    model = model_of(name)
    model.save_pretrained(tmp_path / "base")
    policy = load_checkpoint(tmp_path / "base")
    settings = [Lora(rank=4, alpha=6.0), Lora(rank=3, alpha=2.0)][:number]
    chain = [trained(policy.params, lora, seed) for seed, lora in enumerate(settings)]
    params = policy.params
    for one in chain:
        params = merged(params, one.params, one.lora)
    expected = np.asarray(architecture(policy.config).apply(params, TOKENS))
    assert np.abs(expected - logits_of(model)).max() > 0.1

    (tmp_path / "adapters").mkdir()
    save_peft(chain, str(tmp_path / "base"), tmp_path / "adapters")
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapters").eval()
    np.testing.assert_allclose(logits_of(adapted), expected, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(logits_of(adapted.merge_and_unload()), expected, atol=TOLERANCE, rtol=0)


def test_a_fresh_adapter_has_the_spread_of_pefts():
    """Ours is drawn uniformly within 1 / sqrt(in), as torch's kaiming_uniform_(a=sqrt(5)) is; B is zero in both."""
    model = model_of("llama 2")
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=64, target_modules=["down_proj"]))
    drawn = theirs.base_model.model.model.layers[0].mlp.down_proj.lora_A["default"].weight.detach().numpy()
    params = {"layers": {0: {"ffn": {"down": {"kernel": np.zeros((40, 32), np.float32)}}}}}
    ours = init_adapters(params, Lora(rank=64, targets=("down",)), jax.random.key(0))["layers"][0]["ffn"]["down"]
    assert drawn.T.shape == ours["adapter"]["a"].shape
    for weights in (drawn, np.asarray(ours["adapter"]["a"])):
        assert 0.97 * 40**-0.5 < np.abs(weights).max() <= 40**-0.5
        assert weights.std() == pytest.approx(40**-0.5 / 3**0.5, rel=0.05)  # 2560 uniform numbers: 1 %
    assert not np.any(ours["adapter"]["b"])


def test_adapters_of_different_targets_are_exported_merged_only(tmp_path):
    chain = [Adapters({}, Lora(targets=(target,))) for target in ("query", "value")]
    with pytest.raises(ValueError, match="2 different sets of targets"):
        save_peft(chain, "base", tmp_path)
