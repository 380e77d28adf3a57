"""Which folder a path is relative to, and where the files lie that come with the project.

A path written in a sweep file is relative to that file, as a link in a page is. One given with `--set`, and every
default, is relative to the current folder: the folder that the command runs in, which holds the project of whoever
runs it. `~` is the user's home in both. Files that come with the project are found beside its code.
"""

import os
from importlib import resources
from pathlib import Path

SHIPPED = Path(str(resources.files("scaling") / "shipped"))  # artifacts, used where their digest agrees
SHAPES = Path(str(resources.files("scaling.pretrained") / "configs"))  # of checkpoints, by hub name


def from_current(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what the current folder or the home leads to."""
    return Path(os.path.abspath(Path(path).expanduser()))


def written_in(folder: Path, path: str) -> str:
    """A path as a file in `folder` writes it, for use from the current folder; buckets stay as they are.

    It begins with ./ where it lies in the current folder, so that names made from it are the same on every machine,
    and is absolute elsewhere. Neither is ever a name of the hub.
    """
    if not path or "://" in path:
        return path
    absolute = Path(os.path.abspath(from_current(folder) / Path(path).expanduser()))
    current = Path.cwd()
    return os.path.join(".", absolute.relative_to(current)) if absolute.is_relative_to(current) else str(absolute)


def is_path(name: str) -> bool:
    """Whether a name says by its form that it is a path: absolute, or from the home, ., or .."""
    return Path(name).is_absolute() or name.split("/")[0].split(os.sep)[0] in ("~", ".", "..")


def shown(path: Path) -> str:
    """A path for messages and pages: relative to the current folder where it lies in it."""
    absolute, current = from_current(path), Path.cwd()
    return (absolute.relative_to(current) if absolute.is_relative_to(current) else absolute).as_posix()
