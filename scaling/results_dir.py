"""Where a sweep's artifacts and results are: the store it names, the shipped artifacts, its results directory."""

import re
from collections.abc import Sequence
from pathlib import Path

from scaling.config import Sweep
from scaling.engine.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = REPOSITORY / "results" / "shipped"  # artifacts that come with the repository, used where the digest agrees


def open_store(sweep: Sweep) -> Store:
    """The sweep's store; a relative path is below the repository, wherever the command runs."""
    root = sweep.store if "://" in sweep.store else REPOSITORY / Path(sweep.store).expanduser()
    return Store(root, SHIPPED)


def results_dir(file: Path, overrides: Sequence[str]) -> Path:
    """`results/NAME`, and a name of its own for a sweep with overrides, so that it replaces no other's results."""
    suffix = "".join(f"+{re.sub(r'[^A-Za-z0-9_.=,-]+', '-', override)}" for override in sorted(overrides))
    return REPOSITORY / "results" / f"{file.stem}{suffix}"
