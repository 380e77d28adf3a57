"""Filter the user's environment variables for jax: none that would change a result is passed on.

In: an environment. Out: the same without the variables of jax, flax and XLA that are not on the list here, and with
the settings that they would change pinned. A stage's identity does not cover the environment, so a variable that
changes numbers would leave two results under one digest. The variables allowed are for memory, devices, logging,
dumping and caches.
"""

import sys
from collections.abc import Iterable, Mapping, MutableMapping
from fnmatch import fnmatchcase

FAMILIES = ("JAX_*", "XLA_*", "FLAX_*", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # hold flags of XLA, which are filtered one by one
ALLOWED = (
    # memory
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_*",
    "JAX_PJRT_CLIENT_CREATE_OPTIONS",
    # devices and the network between them
    "JAX_PLATFORMS",
    "JAX_PLATFORM_NAME",
    "JAX_NUM_CPU_DEVICES",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION",
    "JAX_CPU_GET_LOCAL_TOPOLOGY_TIMEOUT_MINUTES",
    "JAX_CPU_GET_GLOBAL_TOPOLOGY_TIMEOUT_MINUTES",
    # logging
    "JAX_LOG*",
    "JAX_DEBUG_LOG_MODULES",
    "JAX_EXPLAIN_CACHE_MISSES",
    "JAX_COMPILER_DETAILED_LOGGING_MIN_OPS",
    "JAX_TRACEBACK_*",
    "JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS",
    # dumping
    "JAX_DUMP_*",
    "JAX_INCLUDE_DEBUG_INFO_IN_DUMPS",
    # caches
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_COMPILATION_CACHE_*",
    "JAX_PERSISTENT_CACHE_*",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
)
ALLOWED_FLAGS = (
    "--xla_dump_*",
    "--xla_force_host_platform_device_count=*",
    "--xla_gpu_per_fusion_autotune_cache_dir=*",
    "--xla_gpu_kernel_cache_file=*",
)
SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false"  # for workers on one core
# The settings behind every result of the project: the defaults of the jax version it first ran on.
PINNED = {"JAX_ENABLE_X64": "0", "JAX_DEFAULT_PRNG_IMPL": "threefry2x32", "JAX_THREEFRY_PARTITIONABLE": "1"}
# On an accelerator a float32 policy's matrix products are float32, not TF32 or bfloat16 as they would be by default;
# a bfloat16 policy says its own (`ModelConfig.precision`). On a CPU there is nothing to choose, and programs keep their
# bytes.
PRECISION = "JAX_DEFAULT_MATMUL_PRECISION"
PINNED_ON_ACCELERATORS = {**PINNED, PRECISION: "highest"}

ACCELERATOR = "SCALING_ACCELERATOR"  # what a worker's resources name, or jax finds where there is none: GPU or TPU
_EXTRAS = {"GPU": "'.[cuda12]' or '.[cuda13]', as its driver needs", "TPU": "'.[tpu]'"}


def require_accelerator(environ: Mapping[str, str]) -> None:
    """Raise RuntimeError where a worker was given an accelerator that jax does not see."""
    wanted = environ.get(ACCELERATOR)
    if wanted is None:
        return
    import jax

    if jax.default_backend() == "cpu":
        raise RuntimeError(
            f"resources ask for a {wanted.lower()} here, but jax {jax.__version__} in {sys.executable} sees the CPU"
            f" alone; install the extra on this machine: pip install {_EXTRAS[wanted]}."
        )


def pin(environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """Remove variables that are not allowed and pin settings that change results; returns the removed ones, as
    NAME=value.

    Call it before jax is imported; if it already is, its settings are pinned as well.
    """
    pinned = PINNED_ON_ACCELERATORS if ACCELERATOR in environ else PINNED
    dropped = []
    for name in sorted(environ):
        value = environ[name]
        if not _matches(name, FAMILIES) or _matches(name, ALLOWED) or pinned.get(name) == value:
            continue
        if name not in FLAGS:
            dropped.append(f"{name}={value}")
            del environ[name]
            continue
        kept = allowed_flags(value)
        environ[name] = " ".join(kept)
        if others := [flag for flag in value.split() if flag not in kept]:
            dropped.append(f"{name}={' '.join(others)}")
    environ.update(pinned)
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_enable_x64", False)
        jax.config.update("jax_default_prng_impl", "threefry2x32")
        jax.config.update("jax_threefry_partitionable", True)
        jax.config.update("jax_default_matmul_precision", pinned.get(PRECISION))
    return tuple(dropped)


def pin_here(environ: MutableMapping[str, str]) -> None:
    """`pin` for stages in this process: no worker's resources say whether it has an accelerator, so jax is asked."""
    import jax

    backend = jax.default_backend()
    if backend != "cpu":
        environ[ACCELERATOR] = backend.upper()
    pin(environ)


def allowed_flags(flags: str) -> list[str]:
    """The flags of XLA that change no result. A value that names a file of flags is dropped."""
    return [flag for flag in flags.split() if flag == SINGLE_THREADED or _matches(flag, ALLOWED_FLAGS)]


def warning(dropped: Iterable[str]) -> str:
    """The warning for a user whose variables were removed."""
    return (
        f"Ignored from the environment: {'; '.join(dropped)}. A variable that can change results does not reach the"
        " stages, because a stage's identity does not cover it. A sweep sets precision with policy.compute_dtype;"
        " there is no key for the rest. Variables for memory, devices, logging, dumping and caches reach them."
    )


def reaching(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables for jax and XLA that are set, for the record."""
    return {name: environ[name] for name in sorted(environ) if _matches(name, FAMILIES)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
