"""Whether a sweep can sample on a server: one process asks it, and nothing is divided over devices or hosts here.

In: a sweep. Out: nothing, or a ConfigError that names the key, its value and the cure.
"""

from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.planning.grid import cells


def check_sampler(sweep: Sweep, path: Path) -> None:
    """Refuse hosts and meshes for stages that a server samples: each member would ask for every completion anew."""
    hosts, mesh = sweep.resources.hosts.rollouts, sweep.resources.mesh.rollouts.num_devices
    if (hosts, mesh) == (1, 1) or all(cell.sampler is None for cell in cells(sweep)):
        return
    key, value = ("hosts", hosts) if hosts > 1 else ("mesh", mesh)
    raise ConfigError(
        f"{path}: resources.{key}.rollouts asks for {value} {'workers' if hosts > 1 else 'devices'} of one stage, but"
        f" sampler names a server that samples in their place; leave resources.{key}.rollouts out."
    )
