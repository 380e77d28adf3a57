"""Where a result came from: the code's commit, the packages, the host and the device.

In: nothing. Out: a dict for the record. Unknown values are absent: the commit outside a git checkout, the device
in a process that has not loaded jax. Everything is found once per process.
"""

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from scaling.engine.jax_environment import reaching

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = ("scaling", "algorithms", "data", "analysis", "setup.cfg")  # what makes a checkout dirty: not its results
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "ray",
    "safetensors",
)


def provenance() -> dict[str, object]:
    """The record's provenance: commit, dirty, python, platform, host, packages, environment, with jax the device."""
    device = _device() if "jax" in sys.modules else {}
    return {**checkout(), **_installation(), **device, "environment": reaching(os.environ)}


@cache
def checkout() -> dict[str, object]:
    """The commit, and whether the sources differ from it; empty if the project is not a git checkout."""
    if not (PROJECT / ".git").exists():
        return {}
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", *(name for name in SOURCES if (PROJECT / name).exists()))
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git here, or a checkout without a commit
        return {}
    return {"commit": commit, "dirty": bool(changed)}


@cache
def _installation() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


@cache
def _device() -> dict[str, object]:
    import jax

    devices = jax.devices()
    return {"device": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", os.fspath(PROJECT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
