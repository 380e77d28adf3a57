"""Refuse a module of the user's that hides one of this project's packages, before an import of it fails.

`python -m` and PYTHONPATH search the current folder first; there a file data.py, or a package data, is imported in
place of ours. Every command imports this module before all others. It imports none of the packages that it checks.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGES = ("scaling", "algorithms", "data", "analysis")
HOME = Path(__file__).resolve().parent.parent


def hidden(folders: Sequence[str]) -> str | None:
    """What is wrong where one of the packages is found elsewhere than here; None where all are ours."""
    for name in PACKAGES:
        spec = PathFinder.find_spec(name, list(folders))
        if spec is None or spec.origin is None:  # not there, or a folder without __init__.py, which hides nothing
            continue
        origin = Path(spec.origin).resolve()
        if origin != HOME / name / "__init__.py":
            found = origin.parent if origin.name == "__init__.py" else origin
            return (
                f"{found} hides the package {name} of this project, which lies in {HOME / name}: Python looks in"
                f" {found.parent} first. Rename it, or run the command in another folder."
            )
    return None


_problem = hidden(sys.path)
if _problem is not None:
    sys.stderr.write(f"error: {_problem}\n")
    sys.exit(2)
