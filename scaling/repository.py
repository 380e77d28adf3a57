"""Where the repository is, below which a sweep's relative paths are, wherever the command runs."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def from_repository(path: str) -> Path:
    """A path that a sweep names: below the repository, unless it is absolute or begins with the user's home."""
    return REPOSITORY / Path(path).expanduser()
