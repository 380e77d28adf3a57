"""What of the user's environment reaches jax, and that none of it changes a result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stages import toy

from scaling.engine.inline import InlinePool
from scaling.engine.jax_environment import (
    ACCELERATOR,
    FAMILIES,
    FLAGS,
    PINNED,
    allowed_flags,
    pin,
    reaching,
    require_accelerator,
    warning,
)
from scaling.engine.placement import environment, shape
from scaling.engine.store import Store
from scaling.engine.worker import StageWorker

ROOT = Path(__file__).parent.parent
CHANGES_RESULTS = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_DISABLE_JIT": "1",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_cpu_fast_math_honor_nans=false",
    "FLAX_FIX_RNG_SEPARATOR": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "LIBTPU_INIT_ARGS": "--xla_jf_conv_full_precision=false",
}
HARMLESS = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_CLIENT_MEM_FRACTION": "0.4",
    "JAX_PLATFORMS": "cpu",
    "JAX_CUDA_VISIBLE_DEVICES": "1",
    "JAX_LOG_COMPILES": "1",
    "JAX_LOGGING_LEVEL": "DEBUG",
    "JAX_DUMP_IR_TO": "dumps",
    "JAX_COMPILATION_CACHE_DIR": "cache",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "PATH": "/bin",
    "AJAX_JAX_": "other",
}


def test_what_changes_results_is_taken_away_and_named_and_what_does_not_stays():
    environ = {**HARMLESS, **CHANGES_RESULTS}
    dropped = pin(environ)
    assert sorted(entry.partition("=")[0] for entry in dropped) == sorted(CHANGES_RESULTS)
    assert "JAX_ENABLE_X64=1" in dropped
    assert environ == {**HARMLESS, **PINNED, "XLA_FLAGS": "", "LIBTPU_INIT_ARGS": ""}
    assert pin(environ) == ()
    said = warning(dropped)
    assert "JAX_DEFAULT_PRNG_IMPL=rbg" in said and "identity does not cover it" in said
    assert reaching(environ).keys() == environ.keys() - {"PATH", "AJAX_JAX_"}


def test_on_an_accelerator_float32_products_are_float32_and_the_record_says_so():
    environ = environment(shape({"tpu": 4}), "cache") | {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}
    try:
        assert pin(environ) == ("JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32",)
        assert jax.config.jax_default_matmul_precision == "highest"
        assert reaching(environ)["JAX_DEFAULT_MATMUL_PRECISION"] == "highest" and pin(environ) == ()
    finally:
        pin({})
    assert jax.config.jax_default_matmul_precision is None  # a CPU's programs keep their bytes


@pytest.mark.parametrize(("backend", "amounts"), [("cpu", {"cpu": 1}), ("gpu", {"gpu": 1}), ("tpu", {"tpu": 4})])
def test_a_worker_and_inline_stages_compute_with_the_same_precision(tmp_path, monkeypatch, backend, amounts):
    seen = []
    runners = {"toy": lambda config, inputs, out: seen.append(jax.config.jax_default_matmul_precision) or {}}
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    try:
        with monkeypatch.context() as of_worker:
            for name, value in environment(shape(amounts), "cache").items():
                of_worker.setenv(name, value)
            StageWorker(str(tmp_path), None, runners, {}, ()).run(toy("in a worker"))
        pin({})  # another process
        with monkeypatch.context() as of_sweep:
            of_sweep.setenv("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32")
            of_sweep.setenv(ACCELERATOR, "")
            of_sweep.delenv(ACCELERATOR)  # what is set below is removed at the end
            with InlinePool(Store(tmp_path), runners) as pool:
                pool.wait([pool.submit(toy("inline"))], 0.0)
    finally:
        pin({})
    assert seen == [None if backend == "cpu" else "highest"] * 2


@pytest.mark.parametrize(("name", "extra"), [("gpu", "cuda12"), ("tpu", "tpu")])
def test_a_worker_with_an_accelerator_that_jax_does_not_see_says_which_extra_to_install(name, extra):
    variables = environment(shape({name: 1}), "cache")
    with pytest.raises(RuntimeError, match=rf"ask for a {name} here, but jax .* sees the CPU alone; .*{extra}"):
        require_accelerator(variables)
    require_accelerator(environment(shape({"cpu": 1}), "cache"))


def test_flags_of_xla_are_looked_at_one_by_one():
    flags = "--xla_dump_to=here --xla_cpu_enable_fast_math=true --xla_force_host_platform_device_count=8"
    environ = {"XLA_FLAGS": f" {flags}  --xla_cpu_multi_thread_eigen=true"}
    dropped = pin(environ)
    assert environ["XLA_FLAGS"] == "--xla_dump_to=here --xla_force_host_platform_device_count=8"
    assert dropped == ("XLA_FLAGS=--xla_cpu_enable_fast_math=true --xla_cpu_multi_thread_eigen=true",)
    assert allowed_flags("/home/me/flags.txt") == []  # XLA would read the flags from that file


@given(
    name=st.from_regex(r"(JAX|XLA|FLAX)_[A-Z0-9_]{1,30}", fullmatch=True),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
def test_a_variable_nobody_has_thought_of_does_not_reach_the_stages(name, value):
    environ = {name: value}
    dropped = pin(environ)
    known = name in (*FLAGS, *PINNED) or any(
        name.startswith(word) for word in ("JAX_LOG", "JAX_DUMP_", "JAX_TRACEBACK_", "XLA_PYTHON_CLIENT_")
    )
    assert known or (name not in environ) == bool(dropped)
    assert FAMILIES and set(PINNED) <= environ.keys()


WITHOUT_REPORT = """
import sys
from scaling import sweep
if __name__ == "__main__":
    sweep._write_report = lambda *arguments: None
    sys.exit(sweep._command())
"""


def params_under(variables: dict[str, str], folder: Path, *options: str) -> tuple[bytes, dict, str]:
    """Params of a tiny SFT run by the command line with these variables, its record, and what was warned."""
    from toy_sweep import writer

    folder.mkdir()
    grid = {"algorithm": ["sft"], "data_size": [8]}
    file = writer(folder)(seeds=[0], grid=grid)
    environment = {name: value for name, value in os.environ.items() if name not in CHANGES_RESULTS}
    command = [sys.executable, "-c", WITHOUT_REPORT, file, *options]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (folder / "store/sft").glob("*/record.json")
    return (record.parent / "policy.safetensors").read_bytes(), json.loads(record.read_text()), done.stderr


@pytest.mark.slow
def test_the_environment_changes_no_params_with_and_without_workers(tmp_path):
    plain, _, silent = params_under({}, tmp_path / "plain", "--inline")
    inline, record, said = params_under(CHANGES_RESULTS, tmp_path / "inline", "--inline")
    assert inline == plain
    assert "warning" not in silent and said.count("warning: Ignored from the environment: ") == 1
    assert all(f"{name}=" in said for name in CHANGES_RESULTS)
    assert record["provenance"]["environment"]["JAX_ENABLE_X64"] == "0"
    assert "JAX_DISABLE_JIT" not in record["provenance"]["environment"]


@pytest.mark.slow
@pytest.mark.ray
def test_the_environment_changes_no_params_of_workers(tmp_path):
    plain, _, _ = params_under({}, tmp_path / "plain")
    changed, record, said = params_under({**CHANGES_RESULTS, "JAX_LOG_COMPILES": "0"}, tmp_path / "changed")
    assert changed == plain
    assert said.count("warning: Ignored from the environment: ") == 1
    reached = record["provenance"]["environment"]
    assert reached["JAX_LOG_COMPILES"] == "0" and reached["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false"
    assert "JAX_RANDOM_SEED_OFFSET" not in reached
