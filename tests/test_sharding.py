"""A policy on eight devices: where its arrays lie, and that losses, gradients, stages and tokens are those of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from tiny_policy import CONFIG, random_params

from scaling.model.layout import AXES, PARAMS, params_on_device
from scaling.model.policy import PARAMS_FILE, flat, load_policy, param_shapes
from scaling.model.sharding import on_mesh, param_spec, placed_params, placed_rows, row_multiple
from scaling.model.sizes import ModelConfig
from scaling.training.batching import micro_batches

TESTS = Path(__file__).parent
ONE = "1x1x1"
MESHES = ("1x8x1", "1x4x2", "1x1x8", "2x2x2")  # data x fsdp x tensor
LLAMA = ModelConfig(
    vocab_size=128_256, width=4096, num_layers=2, num_heads=32, num_kv_heads=8, head_width=128, ffn_width=14_336,
    untied_head=True, qkv_bias=True, output_bias=True, qk_norm=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that sharded_run computes, on one device and on each mesh."""
    folder = tmp_path_factory.mktemp("sharded")
    path = os.pathsep.join(map(os.fspath, (TESTS.parent, TESTS)))
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    for name in (ONE, *MESHES):
        command = [sys.executable, "-W", "error", os.fspath(TESTS / "sharded_run.py"), os.fspath(folder), name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stderr
    return folder


def facts(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def axes(data: int, fsdp: int, tensor: int) -> dict[str, int]:
    return dict(zip(AXES, (data, fsdp, tensor), strict=True))


# Where arrays lie: no devices are needed for it.


def test_heads_and_feed_forward_width_lie_over_tensor_and_the_other_dimension_over_fsdp():
    specs = {name: param_spec(name, LLAMA, axes(1, 4, 2)) for name in param_shapes(LLAMA)}
    assert specs["layers.1.attention.query.kernel"] == specs["layers.0.attention.key.kernel"] == P("fsdp", "tensor")
    assert specs["layers.1.attention.output.kernel"] == specs["layers.0.ffn.down.kernel"] == P("tensor", "fsdp")
    assert specs["layers.0.ffn.gate.kernel"] == specs["layers.0.ffn.up.kernel"] == P("fsdp", "tensor")
    assert specs["embedding.embedding"] == P("tensor", "fsdp") and specs["head.kernel"] == P("fsdp", "tensor")
    assert specs["layers.0.attention.value.bias"] == P("tensor")
    assert specs["layers.0.attention.output.bias"] == specs["layers.0.attention.query_norm.scale"] == P()


def test_every_matrix_of_the_decoder_is_in_the_table():
    matrices = {name.removeprefix("layers.0.") for name, shape in param_shapes(LLAMA).items() if len(shape) > 1}
    assert {name for name in matrices if not name.startswith("layers.")} <= set(PARAMS)
    known = {name.removeprefix("layers.0.") for name in param_shapes(LLAMA)}
    assert set(PARAMS) <= known


def test_key_heads_fewer_than_the_tensor_axis_are_repeated_and_no_head_is_cut():
    sixteen = axes(1, 1, 16)
    assert param_spec("layers.0.attention.query.kernel", LLAMA, sixteen) == P("fsdp", "tensor")
    # 8 key heads of width 128: the 1,024 columns would divide by 16, their heads do not.
    assert param_spec("layers.0.attention.key.kernel", LLAMA, sixteen) == P("fsdp", None)
    assert param_spec("layers.0.ffn.up.kernel", LLAMA, axes(1, 3, 1)) == P(None, "tensor")  # 4096 is no multiple of 3


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 4, 2), (2, 3, 16), (8, 1, 1)])
@pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["tied", "untied"])
def test_the_numbers_a_device_holds_are_the_sum_over_params_of_its_parts(config, sizes):
    mesh, expected = axes(*sizes), 0.0
    for name, shape in param_shapes(config).items():
        over = [axis for axis in param_spec(name, config, mesh) if axis]
        expected += np.prod(shape) / np.prod([mesh[axis] for axis in over])
    assert params_on_device(config, mesh) == pytest.approx(expected)


def test_without_a_mesh_arrays_stay_where_they_are():
    params = random_params(0)
    with on_mesh(axes(1, 1, 1)):
        placed = flat(placed_params(params, CONFIG))
        assert all(leaf is placed[name] for name, leaf in flat(params).items())
        batch = {"tokens": np.zeros((3, 8), np.int32)}
        assert placed_rows(batch) is batch and row_multiple() == 1


def test_a_mesh_of_other_than_all_devices_is_an_error_with_both_numbers():
    expected = rf"the mesh data 1 x fsdp {4 * jax.device_count()} x tensor 2 has .* jax sees {jax.device_count()} "
    with pytest.raises(ValueError, match=expected), on_mesh(axes(1, 4 * jax.device_count(), 2)):
        pass


def test_micro_batches_have_a_multiple_of_the_devices_rows_and_filler_weighs_nothing(monkeypatch):
    monkeypatch.setattr("scaling.training.batching.row_multiple", lambda: 8)
    lengths = np.array([70, 60, 50, 40, 30, 20, 9, 8, 7, 6, 5])
    arrays = {"tokens": np.zeros((11, 72), np.int32), "mask": np.ones((11, 72), np.float32)}
    found = list(micro_batches(arrays, np.arange(11), lengths, batch_size=11))
    assert all(len(batch["weight"]) % 8 == 0 for _, batch in found)
    assert sum(float(batch["weight"].sum()) for _, batch in found) == 11
    assert sorted(row for rows, _ in found for row in rows) == list(range(11))


# The same results on every mesh. float32 sums of a few dozen terms in another order: relative errors of some 1e-7 a
# sum, and 1e-5 after two layers and their gradients.


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_loss_and_gradient_are_those_of_one_device(folder, name):
    one, many = facts(folder, ONE), facts(folder, name)
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-6)
    for key, expected in one["gradient"].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(many["gradient"][key], expected, rtol=0, atol=1e-5 * scale, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_sequences_that_share_rows_have_the_loss_and_gradient_of_one_device(folder, name):
    one, many = facts(folder, ONE), facts(folder, name)
    ways = int(np.prod([int(size) for size in name.split("x")[:2]]))
    assert all(rows % ways == 0 for rows, _ in many["packed_shapes"])
    assert many["packed_loss"] == pytest.approx(one["packed_loss"], rel=1e-6)
    for key, expected in one["packed_gradient"].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(many["packed_gradient"][key], expected, rtol=0, atol=1e-5 * scale, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("rows", ["xla", "xla_shared"])
def test_jaxs_attention_has_the_loss_and_gradient_of_one_device(folder, name, rows):
    one, many = facts(folder, ONE), facts(folder, name)
    assert many[f"{rows}_loss"] == pytest.approx(one[f"{rows}_loss"], rel=1e-6)
    for key, expected in one[f"{rows}_gradient"].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(many[f"{rows}_gradient"][key], expected, rtol=0, atol=1e-5 * scale, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", (ONE, *MESHES))
def test_cudnns_attention_gets_the_rows_and_heads_of_one_device(folder, name):
    """Eight rows of 16 tokens with eight heads of width 8."""
    data, fsdp, tensor = map(int, name.split("x"))
    assert facts(folder, name)["cudnn"] == [f"{8 // (data * fsdp)}x16x{8 // tensor}x8"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_updates_have_the_same_losses_and_leave_params_and_moments_where_the_table_puts_them(folder, name):
    one, many = facts(folder, ONE), facts(folder, name)
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-5)
    assert one["losses"][2] < 0.8 * one["losses"][0]
    assert many["misplaced"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_the_work_is_divided_over_the_devices(folder, name):
    share = facts(folder, name)["flops"] / facts(folder, ONE)["flops"]
    # Products for a token: in each of 2 layers, projections and 16 keys of 4 heads (2 of them for keys and values) of
    # width 6, and three feed-forward matrices; the vocabulary once.
    heads, ffn, vocab = 2 * (2 * 16 * (24 + 12) + 2 * 24 * 16), 2 * 3 * 16 * 24, 16 * 32
    # Of 4 heads none can be given to each of 8 devices, so all of them have all heads.
    expected = (heads + (ffn + vocab) / 8) / (heads + ffn + vocab) if name == "1x1x8" else 1 / 8
    assert share == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_greedy_and_drawn_completions_have_the_same_tokens(folder, name):
    one, many = facts(folder, ONE), facts(folder, name)
    assert many["greedy"] == one["greedy"] and many["drawn"] == one["drawn"]
    np.testing.assert_allclose(many["logps"], one["logps"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_whole_sft_and_dpo_end_with_the_same_policy_and_numbers(folder, name, stage):
    assert facts(folder, name)[stage] == pytest.approx(facts(folder, ONE)[stage], rel=1e-4)
    place = {"sft": "reference"}.get(stage, stage)
    one, many = (flat(load_policy(folder / mesh / place).params) for mesh in (ONE, name))
    for key, expected in one.items():
        # Adam divides a gradient by its size: noise in one that is nearly 0 moves a param by up to a learning rate.
        np.testing.assert_allclose(many[key], expected, rtol=0, atol=2e-3, err_msg=key)
        assert np.mean(np.abs(many[key] - expected)) < 2e-5, key


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_equal_params_make_equal_files_on_every_mesh(folder, name):
    assert (folder / name / PARAMS_FILE).read_bytes() == (folder / ONE / PARAMS_FILE).read_bytes()
