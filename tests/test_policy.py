"""Policies on disk: what is saved comes back bit for bit, and a file that does not fit is refused by name."""

import json
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_policy import CONFIG, random_params

from scaling.model.policy import PARAMS_FILE, SHAPE_FILE, Policy, load_policy, save_policy
from scaling.model.sizes import RopeScaling
from scaling.model.transformer import architecture

NAME = "layers.1.attention.key.kernel"


@pytest.fixture(scope="module")
def policy():
    return Policy(random_params(0), CONFIG)


@pytest.fixture
def saved(policy, tmp_path):
    save_policy(policy, tmp_path)
    return tmp_path


def rewrite(directory, change):
    arrays = load_file(directory / PARAMS_FILE)
    change(arrays)
    save_file(arrays, directory / PARAMS_FILE)


def test_a_policy_comes_back_bit_for_bit(policy, saved):
    loaded = load_policy(saved)
    assert loaded.config == CONFIG
    assert jax.tree.structure(loaded.params) == jax.tree.structure(dict(policy.params))
    for ours, theirs in zip(jax.tree.leaves(policy.params), jax.tree.leaves(loaded.params), strict=True):
        assert ours.dtype == theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_saving_what_was_loaded_writes_the_same_bytes(saved, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    save_policy(load_policy(saved), again)
    for name in (PARAMS_FILE, SHAPE_FILE):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_tensors_have_dotted_names_that_other_programs_can_read(saved):
    arrays = load_file(saved / PARAMS_FILE)
    assert arrays[NAME].shape == (CONFIG.width, CONFIG.num_kv_heads * CONFIG.head_width)
    assert sum(array.size for array in arrays.values()) == CONFIG.num_params


def test_a_policy_without_later_features_is_written_as_before_they_were_known(policy, saved):
    known = {"vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width", "ffn_width"}
    fields = json.loads((saved / SHAPE_FILE).read_text())
    assert set(fields) == known | {"rope_theta", "norm_epsilon"}
    assert fields == {name: asdict(CONFIG)[name] for name in fields}


@pytest.mark.parametrize("scaling", [None, RopeScaling("linear", 4.0), RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)])
def test_a_shape_with_every_feature_comes_back(tmp_path, scaling):
    features = {"sliding_window": 9, "max_positions": 40, "untied_head": True, "qkv_bias": True, "output_bias": True}
    config = replace(CONFIG, rope_scaling=scaling, qk_norm=True, **features)
    params = architecture(config).init(jax.random.key(0))
    save_policy(Policy(params, config), tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.config == config and hash(loaded.config) == hash(config)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(dict(params))


def test_a_missing_tensor_is_named(saved):
    rewrite(saved, lambda arrays: arrays.pop(NAME))
    with pytest.raises(ValueError, match=rf"{PARAMS_FILE} has no tensor '{NAME}'"):
        load_policy(saved)


def test_an_unknown_tensor_is_named(saved):
    rewrite(saved, lambda arrays: arrays.update({"head.kernel": np.zeros((16, 32), np.float32)}))
    with pytest.raises(ValueError, match=rf"{PARAMS_FILE} has an unknown tensor 'head.kernel'"):
        load_policy(saved)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(saved):
    (saved / SHAPE_FILE).write_text(json.dumps(asdict(replace(CONFIG, num_kv_heads=1))))
    with pytest.raises(ValueError, match=r"layers.0.attention.key.kernel has shape \(16, 12\).* implies \(16, 6\)"):
        load_policy(saved)


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, 4000])
def test_a_cut_file_is_refused_by_its_path(saved, kept_bytes):
    path = saved / PARAMS_FILE
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ValueError, match=PARAMS_FILE):
        load_policy(saved)
