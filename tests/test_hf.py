"""Reading checkpoints: whatever does not fit is one error that names it, and nothing that comes with them is run."""

import json
import pickle
import re
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_policy import CONFIG, random_params

from scaling.model.policy import Policy
from scaling.pretrained.hf import INDEX_FILE, WEIGHTS_FILE, load_checkpoint, save_checkpoint
from scaling.pretrained.hf_config import CONFIG_FILE, as_config

KEY = "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(Policy(random_params(0), CONFIG), tmp_path)
    return tmp_path


@pytest.fixture
def reading():
    pytest.importorskip("transformers", reason="config.json is read through transformers: pip install -e '.[hf]'")


def change_config(folder, **changes):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    arrays = load_file(folder / WEIGHTS_FILE)
    change(arrays)
    save_file(arrays, folder / WEIGHTS_FILE)


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(folder)
    assert str(folder) in str(caught.value)


def test_a_policy_comes_back_bit_for_bit_through_a_checkpoint(folder, reading):
    policy = load_checkpoint(folder)
    # What transformers states by default: the positions a Llama is made for.
    assert replace(policy.config, max_positions=None) == CONFIG
    jax.tree.map(np.testing.assert_array_equal, policy.params, dict(random_params(0)))


def test_linear_layers_are_stored_transposed_under_their_names(folder):
    arrays = load_file(folder / WEIGHTS_FILE)
    np.testing.assert_array_equal(arrays[KEY].T, random_params(0)["layers"][1]["attention"]["key"]["kernel"])
    assert arrays["model.embed_tokens.weight"].shape == (CONFIG.vocab_size, CONFIG.width)
    assert "lm_head.weight" not in arrays


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma2"}, "model_type is 'gemma2'; the decoder knows llama, mistral, qwen2, qwen3"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures is .*expected .'LlamaForCausalLM'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config; give the checkpoint in float32"),
    ],
)
def test_another_kind_of_model_is_refused_without_transformers(folder, changes, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    change_config(folder, **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; the decoder knows silu"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "rope_type is 'yarn'; the decoder knows default, linear",
        ),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_type is 'dynamic'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; the decoder rotates whole heads"),
        ({"num_key_value_heads": 3}, "num_heads is 4 and num_kv_heads 3"),
        ({"vocab_size": "many"}, "vocab_size"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_name(folder, changes, message, reading):
    change_config(folder, **changes)
    refused(folder, message)


def test_windows_in_some_layers_only_are_refused(folder, reading):
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    change_config(folder, model_type="qwen3", architectures=["Qwen3ForCausalLM"], **window)
    refused(folder, "layer_types has full_attention, sliding_attention")


def test_code_that_comes_with_a_checkpoint_is_not_run(folder, reading):
    (folder / "modeling_mine.py").write_text("raise SystemExit('it ran')\n")
    change_config(folder, auto_map={"AutoConfig": "modeling_mine.Mine", "AutoModelForCausalLM": "modeling_mine.Mine"})
    assert load_checkpoint(folder).config.width == CONFIG.width
    change_config(folder, model_type="mine")
    refused(folder, "model_type is 'mine'")


def test_without_transformers_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=re.escape("pip install --editable '.[hf]'")):
        load_checkpoint(folder)


def test_a_missing_tensor_is_named(folder, reading):
    change_weights(folder, lambda arrays: arrays.pop(KEY))
    refused(folder, f"has no tensor '{KEY}', which its config implies")


def test_an_unexpected_tensor_is_named(folder, reading):
    change_weights(folder, lambda arrays: arrays.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(24)}))
    refused(folder, "tensor 'model.layers.0.self_attn.q_proj.bias' is F64; expected one of F32, BF16, F16")
    change_weights(
        folder, lambda arrays: arrays.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(24, np.float32)})
    )
    refused(folder, "unexpected tensor 'model.layers.0.self_attn.q_proj.bias'")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder, reading):
    change_weights(folder, lambda arrays: arrays.update({KEY: np.zeros((16, 12), np.float32)}))
    refused(folder, rf"tensor '{KEY}' has shape \(16, 12\), its config implies \(12, 16\)")


def test_the_head_of_a_tied_embedding_may_only_repeat_it(folder, reading):
    tables = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}  # in old checkpoints of Llama 2
    change_weights(
        folder, lambda arrays: arrays.update(tables | {"lm_head.weight": arrays["model.embed_tokens.weight"].copy()})
    )
    jax.tree.map(np.testing.assert_array_equal, load_checkpoint(folder).params, dict(random_params(0)))
    change_weights(folder, lambda arrays: arrays.update({"lm_head.weight": arrays["lm_head.weight"] + 1}))
    refused(folder, "unexpected tensor 'lm_head.weight'")


def test_a_pickle_is_refused_by_name_and_never_read(folder, reading):
    (folder / WEIGHTS_FILE).unlink()
    refused(folder, f"has neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap()))
    refused(folder, "pytorch_model.bin, a pickle")


def test_a_shard_that_is_missing_cut_or_elsewhere_is_named(folder, reading):
    (folder / WEIGHTS_FILE).unlink()
    save_checkpoint(Policy(random_params(0), CONFIG), folder, shard_bytes=4_000)
    index = json.loads((folder / INDEX_FILE).read_text())
    shard = folder / index["weight_map"][KEY]
    whole = shard.read_bytes()
    load_checkpoint(folder)
    shard.write_bytes(whole[:-1])
    refused(folder, f"{shard.name} is not a complete safetensors file")
    shard.unlink()
    refused(folder, f"lacks the shard {shard.name}")
    shard.write_bytes(whole)
    save_file({KEY: np.zeros((12, 16), np.float32)}, folder / "model-twice.safetensors")
    for file, message in (
        ("model-twice.safetensors", "is in another shard as well"),
        ("../x", "lies beside its index"),
    ):
        index["weight_map"]["another"] = file
        (folder / INDEX_FILE).write_text(json.dumps(index))
        refused(folder, message)


def test_a_folder_without_a_config_is_no_checkpoint(tmp_path):
    refused(tmp_path, "has no config.json")


def test_a_shape_that_no_architecture_has_is_not_written(tmp_path):
    config = replace(CONFIG, output_bias=True)
    with pytest.raises(ValueError, match="none of llama, mistral, qwen2, qwen3 has this combination"):
        as_config(config)
    with pytest.raises(ValueError, match="none of llama"):
        as_config(replace(CONFIG, qkv_bias=True, output_bias=True, sliding_window=3))


class _Trap:
    def __reduce__(self):
        return pytest.fail, ("the pickle was read",)


WHOLE_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in WHOLE_ROPE for value in ("absent", None) if (key[0], value) != ("o", "absent")],
)  # without the original positions they are max_position_embeddings
def test_half_a_rope_config_is_refused_by_what_it_lacks(folder, key, value, reading):
    rope = {name: item for name, item in WHOLE_ROPE.items() if name != key} | (
        {} if value == "absent" else {key: value}
    )
    change_config(folder, rope_scaling=rope)
    refused(folder, "config.json: .*" + key)


@pytest.mark.parametrize(
    "rope", [{"rope_type": "linear"}, {"type": "linear", "factor": None}, {"factor": 2.0}, {"a": 1}]
)
def test_a_rope_config_without_its_kind_or_factor_is_an_error_or_none(folder, rope, reading):
    change_config(folder, rope_scaling=rope)
    try:
        assert load_checkpoint(folder).config.rope_scaling is None
    except ValueError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize(
    ("generation", "stated", "stops"),
    [
        ({"eos_token_id": None}, {"eos_token_id": 5}, (5,)),
        ({"eos_token_id": []}, {"eos_token_id": [5, 6]}, (5, 6)),
        ({}, {"eos_token_id": 5}, (5,)),
        ({"eos_token_id": 0}, {"eos_token_id": 5}, (0,)),
        ({"eos_token_id": [4]}, {"eos_token_id": 5}, (4,)),
        ({"eos_token_id": None}, {"eos_token_id": None}, None),
    ],
)
def test_a_null_among_the_ids_that_stop_hides_no_other(folder, generation, stated, stops, reading):
    change_config(folder, **stated)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    assert load_checkpoint(folder).config.stop_tokens == stops


@pytest.mark.parametrize("ids", ["</s>", [None], [2.5], True])
def test_ids_that_stop_are_integers(folder, ids, reading):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    refused(folder, "eos_token_id of generation_config.json is")
