"""What a worker asks of Ray and the environment it gets for it: threads, platform, memory, compile cache.

In: amounts as a sweep states them, `{cpu: 1}`, `{gpu: 0.25}`, `{tpu: 4}`, or any other Ray resource by its name. Out:
a `Shape`, its Ray options, and environment variables. Workers without an accelerator are single-threaded when they
ask for at most one core: one such worker a core samples twice as fast as one worker on two cores.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from scaling.engine.artifact import is_local
from scaling.engine.jax_environment import ACCELERATOR, SINGLE_THREADED, allowed_flags

RAY_NAMES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
ACCELERATORS = ("GPU", "TPU")
GPU_MEMORY_FRACTION = 0.9  # of a worker's share; the rest is for the driver's own needs and fragmentation
TOLERANCE = 1e-6  # of sums of fractions
DEVICES = Path("/dev")


@dataclass(frozen=True)
class Shape:
    """The resources one worker holds, by Ray's names."""

    amounts: tuple[tuple[str, float], ...]
    mesh: tuple[tuple[str, int], ...] = ()  # axis -> size, of the mesh that its stages run on; empty for one device
    hosts: int = 1  # how many such workers run a stage together

    def options(self) -> dict[str, object]:
        """The options of a Ray actor."""
        amounts = dict(self.amounts)
        cpu, gpu = amounts.pop("CPU", 0), amounts.pop("GPU", 0)
        return {"num_cpus": cpu, "num_gpus": gpu, "resources": amounts}

    def amount(self, name: str) -> float:
        """How much of a resource a worker holds."""
        return dict(self.amounts).get(name, 0.0)

    @property
    def has_accelerator(self) -> bool:
        """Whether it asks for a GPU or a TPU."""
        return any(name in ACCELERATORS for name, _ in self.amounts)

    @property
    def whole_cores(self) -> int:
        """How many cores to pin the worker to; 0 for none, when it has an accelerator or shares cores."""
        cpu = self.amount("CPU")
        pinned = cpu >= 1 and cpu == int(cpu) and not self.has_accelerator and self.hosts == 1
        return int(cpu) if pinned else 0


def shape(amounts: Mapping[str, float], mesh: Mapping[str, int] = MappingProxyType({}), hosts: int = 1) -> Shape:
    """The shape of a worker with these amounts of resources and this mesh of the devices of all hosts."""
    named = sorted((RAY_NAMES.get(name, name), float(amount)) for name, amount in amounts.items())
    return Shape(tuple(named), tuple(mesh.items()) if math.prod(mesh.values()) > 1 else (), hosts)


def room(shape: Shape, free: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """The node of each host of a worker of this shape, of what is free on the nodes; empty when it does not fit."""
    places: list[str] = []
    for node, amounts in free.items():
        places += [node] * min(hosts_on(shape, amounts), shape.hosts - len(places))
    return tuple(places) if len(places) == shape.hosts else ()


def hosts_on(shape: Shape, node: Mapping[str, float]) -> int:
    """How many of a shape's hosts a node has room for; all of them may be on one."""
    return max(0, min(int(node.get(name, 0.0) / amount + TOLERANCE) for name, amount in shape.amounts))


def environment(shape: Shape, compile_cache: str) -> dict[str, str]:
    """The environment variables of a worker of this shape, set before its process starts."""
    variables = {
        "JAX_COMPILATION_CACHE_DIR": compile_cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",  # XLA's own ones put their path into jax's keys
        "TOKENIZERS_PARALLELISM": "false",
    }
    gpu = shape.amount("GPU")
    if 0 < gpu < 1:
        variables["XLA_CLIENT_MEM_FRACTION"] = f"{GPU_MEMORY_FRACTION * gpu:.3f}"
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = ""  # its older name; jax refuses both
    if shape.has_accelerator:
        variables[ACCELERATOR] = next(name for name, _ in shape.amounts if name in ACCELERATORS)
        return variables
    threads = str(max(1, math.floor(shape.amount("CPU"))))
    variables["JAX_PLATFORMS"] = "cpu"
    variables["NPROC"] = threads  # the size of XLA's thread pools
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables[name] = threads
    if threads == "1":
        others = [flag for flag in allowed_flags(os.environ.get("XLA_FLAGS", "")) if flag != SINGLE_THREADED]
        variables["XLA_FLAGS"] = " ".join([*others, SINGLE_THREADED])
    return variables


def compile_cache(root: str | os.PathLike[str]) -> str:
    """Where all workers on a store keep what jax compiled: beside a local store's artifacts, else in the home."""
    if is_local(root):
        return os.fspath(Path(root).expanduser().absolute() / "compile_cache")
    return os.fspath(Path("~/.cache/scaling/compile_cache").expanduser())


def lacking(amounts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A sentence on each amount of a class's worker that this machine lacks. Other resources only Ray knows."""
    here = {
        "cpu": len(usable_cores()),
        "gpu": len([*DEVICES.glob("nvidia[0-9]*")]),
        "tpu": len([*DEVICES.glob("accel[0-9]*"), *DEVICES.glob("vfio/[0-9]*")]),
    }
    return [
        f"resources.{name} asks for {resource} {amount:g}, but this machine has {here[resource]}: the sweep will not"
        " run here. Give --address of a cluster that has it when you run it, or lower it."
        for name, asked in amounts.items()
        for resource, amount in asked.items()
        if amount > here.get(resource, math.inf)
    ]


def usable_cores() -> tuple[int, ...]:
    """The cores this process may run on, fewer where a container's quota is less."""
    if not hasattr(os, "sched_getaffinity"):
        return tuple(range(os.cpu_count() or 1))
    cores = sorted(os.sched_getaffinity(0))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, _, period = quota.read_text().strip().partition(" ")
        if limit != "max":
            cores = cores[: max(1, math.ceil(int(limit) / int(period)))]
    return tuple(cores)
