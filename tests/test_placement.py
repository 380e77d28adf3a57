"""What a worker asks of Ray, and the environment that follows from it."""

import os
import shutil
import subprocess
import sys

import pytest

from scaling.engine.placement import compile_cache, environment, room, shape, usable_cores


def test_amounts_become_ray_options():
    assert shape({"cpu": 1}).options() == {"num_cpus": 1.0, "num_gpus": 0, "resources": {}}
    assert shape({"gpu": 0.25}).options() == {"num_cpus": 0, "num_gpus": 0.25, "resources": {}}
    assert shape({"tpu": 4, "anything": 2}).options() == {
        "num_cpus": 0,
        "num_gpus": 0,
        "resources": {"TPU": 4.0, "anything": 2.0},
    }


def test_four_quarters_of_a_gpu_fit_and_a_fifth_does_not():
    quarter = shape({"gpu": 0.25})
    assert room(quarter, {"a": {"GPU": 1.0 - 0.25 - 0.25 - 0.25}}) == ("a",)
    assert not room(quarter, {"a": {"GPU": 0.0}})
    assert not room(quarter, {"a": {"CPU": 64.0}})


def test_a_worker_is_on_one_node_and_the_hosts_of_a_group_may_be_on_several():
    two = {"a": {"CPU": 1.0}, "b": {"CPU": 1.0}}
    assert room(shape({"cpu": 1}), two) == ("a",)
    assert not room(shape({"cpu": 2}), two)
    assert room(shape({"cpu": 1}, hosts=2), two) == ("a", "b")
    assert room(shape({"cpu": 1}, hosts=2), {"a": {"CPU": 3.0}, "b": {"CPU": 1.0}}) == ("a", "a")
    assert not room(shape({"cpu": 1}, hosts=2), {"a": {"CPU": 1.0}, "b": {"CPU": -1.0}})


def test_a_worker_on_one_core_is_single_threaded_and_pinned(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true --xla_dump_to=here")
    one = shape({"cpu": 1})
    variables = environment(one, "cache")
    assert variables["XLA_FLAGS"] == "--xla_dump_to=here --xla_cpu_multi_thread_eigen=false"
    assert variables["OMP_NUM_THREADS"] == variables["NPROC"] == "1"
    assert variables["JAX_PLATFORMS"] == "cpu"
    assert one.whole_cores == 1
    assert variables["JAX_COMPILATION_CACHE_DIR"] == "cache"
    half = shape({"cpu": 0.5})
    assert half.whole_cores == 0 and environment(half, "cache")["NPROC"] == "1"
    two = shape({"cpu": 2})
    assert two.whole_cores == 2 and environment(two, "cache")["NPROC"] == "2"
    assert "XLA_FLAGS" not in environment(two, "cache")


def test_a_share_of_a_gpu_is_a_share_of_its_memory():
    variables = environment(shape({"gpu": 0.25, "cpu": 1}), "cache")
    assert variables["XLA_CLIENT_MEM_FRACTION"] == "0.225"
    assert variables.keys().isdisjoint({"JAX_PLATFORMS", "XLA_FLAGS", "NPROC", "OMP_NUM_THREADS"})
    assert "XLA_CLIENT_MEM_FRACTION" not in environment(shape({"gpu": 1}), "cache")
    assert shape({"gpu": 0.25, "cpu": 1}).whole_cores == 0


def test_the_compile_cache_is_beside_local_artifacts_only(tmp_path):
    assert compile_cache(tmp_path / "store") == os.fspath(tmp_path / "store" / "compile_cache")
    assert compile_cache("s3://bucket/store").startswith(os.path.expanduser("~"))


def test_the_usable_cores_are_those_of_this_process():
    assert usable_cores()
    assert set(usable_cores()) <= os.sched_getaffinity(0)


@pytest.mark.slow
def test_the_installed_jax_takes_these_variables(tmp_path):
    # XLA aborts on a flag that it does not know.
    program = "import jax; assert jax.config.jax_compilation_cache_dir; print(float(jax.jit(lambda x: x + 1)(1.0)))"
    variables = environment(shape({"cpu": 1}), os.fspath(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "2.0\n", ran.stderr
    assert list(tmp_path.iterdir())


COMPILE = """
import jax
from jax import monitoring
counts = []
monitoring.register_event_listener(lambda name, **more: counts.append(name.rpartition("/")[2]))
jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((3, 3)))
print(counts.count("cache_hits"), counts.count("cache_misses"))
"""


@pytest.mark.slow
def test_a_store_under_another_path_hits_its_compile_cache(tmp_path):
    def compile_in(folder):
        variables = {**os.environ, **environment(shape({"cpu": 1}), os.fspath(folder))}
        ran = subprocess.run([sys.executable, "-c", COMPILE], env=variables, capture_output=True, text=True, check=True)
        return [int(number) for number in ran.stdout.split()]

    hits, misses = compile_in(tmp_path / "here")
    assert hits == 0 and misses > 0
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert compile_in(tmp_path / "there") == [misses, 0]
