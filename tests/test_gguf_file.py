"""GGUF files written by the package gguf: params come back, and what is unknown is refused by name."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG, random_params

from scaling.model.policy import flat
from scaling.model.transformer import architecture
from scaling.pretrained.gguf_file import _IN_LAYER, _TOP, load_gguf, read_shape
from scaling.pretrained.hf import hf_name
from scaling.pricing.lengths import imported_shape

gguf = pytest.importorskip("gguf", reason="needs gguf: pip install -e '.[hf]'")


SHAPES = {"llama": CONFIG, "qwen2": replace(CONFIG, qkv_bias=True), "qwen3": replace(CONFIG, qk_norm=True)}


def params_of(arch):
    abstract = jax.eval_shape(architecture(SHAPES.get(arch, CONFIG)).init, jax.random.key(0))
    return random_params(0, abstract)


def write(path, arch="llama", fields=None, tensors=None):
    """Random params as a file of llama.cpp; `tensors` are changes, None removes one."""
    writer = gguf.GGUFWriter(path, arch)
    stated = {
        "context_length": 64,
        "embedding_length": CONFIG.width,
        "block_count": CONFIG.num_layers,
        "feed_forward_length": CONFIG.ffn_width,
        "attention.head_count": CONFIG.num_heads,
        "attention.head_count_kv": CONFIG.num_kv_heads,
        "attention.key_length": CONFIG.head_width,
        "rope.dimension_count": CONFIG.head_width,
        **(fields or {}),
    }
    for name, value in stated.items():
        writer.add_uint32(f"{arch}.{name}", value) if isinstance(value, int) else writer.add_string(
            f"{arch}.{name}", value
        )
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", CONFIG.norm_epsilon)
    arrays = {}
    for name, leaf in flat(params_of(arch)).items():
        array = np.asarray(leaf).T if name.endswith("kernel") else np.asarray(leaf)
        name = gguf_name(hf_name(name))
        if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
            array = side_by_side(array)
        arrays[name] = np.ascontiguousarray(array)
    for name, array in {**arrays, **(tensors or {})}.items():
        if array is not None:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    """The name in llama.cpp of a Hugging Face name."""
    module, _, suffix = name.rpartition(".")
    tops = {theirs: own for own, theirs in _TOP.items()}
    if module in tops:
        return f"{tops[module]}.{suffix}"
    _, _, index, inner = module.split(".", 3)
    return f"blk.{index}.{next(own for own, theirs in _IN_LAYER.items() if theirs == inner)}.{suffix}"


def side_by_side(rows: np.ndarray) -> np.ndarray:
    """A head's rows 0 1 2 3 4 5 in the order 0 3 1 4 2 5: each pair's two together, as llama.cpp rotates them."""
    order = [row for pair in range(CONFIG.head_width // 2) for row in (pair, pair + CONFIG.head_width // 2)]
    heads = rows.reshape(-1, CONFIG.head_width, rows.shape[1])
    return heads[:, order].reshape(rows.shape)


@pytest.mark.parametrize("arch", SHAPES)
def test_params_come_back_bit_for_bit(arch, tmp_path):
    policy = load_gguf(write(tmp_path / "tiny.gguf", arch))
    epsilon = policy.config.norm_epsilon
    assert epsilon == pytest.approx(CONFIG.norm_epsilon, rel=1e-6)  # the file holds it in float32
    assert policy.config == replace(SHAPES[arch], max_positions=64, norm_epsilon=epsilon)
    jax.tree.map(np.testing.assert_array_equal, policy.params, dict(params_of(arch)))


def test_the_shape_is_read_without_the_weights(tmp_path):
    path = write(tmp_path / "tiny.gguf")
    assert imported_shape(str(path), None) == read_shape(path) == load_gguf(path).config


def test_half_precision_and_an_untied_head_are_read(tmp_path):
    head = np.random.default_rng(0).normal(size=(CONFIG.vocab_size, CONFIG.width)).astype(np.float16)
    policy = load_gguf(write(tmp_path / "tiny.gguf", tensors={"output.weight": head}))
    assert policy.config.untied_head
    np.testing.assert_array_equal(policy.params["head"]["kernel"], head.T.astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "gemma"}, "general.architecture is 'gemma'; the decoder knows llama, qwen2, qwen3"),
        ({"fields": {"rope.scaling.type": "yarn"}}, "llama.rope.scaling.type is 'yarn'"),
        (
            {"fields": {"rope.dimension_count": 4}},
            "llama.rope.dimension_count is 4; the decoder rotates whole heads, 6",
        ),
        ({"tensors": {"blk.1.attn_k.weight": None}}, "no tensor 'model.layers.1.self_attn.k_proj.weight'"),
        ({"tensors": {"rope_freqs.weight": np.ones(3, np.float32)}}, "an unexpected tensor 'rope_freqs.weight'"),
        (
            {"tensors": {"blk.0.ffn_norm.weight": np.ones(3, np.float32)}},
            r"has shape \(3,\), its config implies \(16,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message, tmp_path):
    path = write(tmp_path / "tiny.gguf", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_gguf(path)
    assert str(path) in str(caught.value)
