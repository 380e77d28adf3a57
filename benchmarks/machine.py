"""Where a benchmark ran: the machine and the versions of both sides.

In: the peer's Python. Out: a mapping for the result's JSON.
"""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PEER = (
    "from importlib import metadata; print(*(f'{n} {metadata.version(n)}' for n in ('torch', 'transformers', 'trl')))"
)


def machine_of(peer: str) -> dict[str, str | int]:
    """Platform, processor, cores and versions."""
    shown = subprocess.run([peer, "-c", _PEER], capture_output=True, text=True, check=True).stdout.split()
    peers = dict(zip(shown[::2], shown[1::2], strict=True))
    ours = {name: metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    where = {"platform": platform.platform(), "processor": processor(), "cores": os.cpu_count() or 1}
    return {**where, "python": platform.python_version(), **ours, **peers}


def processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
