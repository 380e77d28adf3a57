"""Rewrite the paths in a sweep's document: relative to the current folder, not to its file.

In: the document as it was read, or the value of one of its keys, and the folder that its paths are relative to. Out:
the same with new paths. Everything else stays, including malformed values, which later checks report.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scaling.paths import from_current, is_path, written_in


def placed(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document, with its paths resolved from `folder`."""
    return {key: placed_at(str(key), value, folder) for key, value in document.items()}


def placed_at(place: str, value: object, folder: Path) -> Any:
    """The value of a dotted key, with its paths resolved; [] stands for the entries of a list."""
    if place in _PATHS and isinstance(value, str):
        return _PATHS[place](folder, value)
    if not any(path.startswith(place) for path in _PATHS):
        return value
    if isinstance(value, Mapping):
        return {key: placed_at(f"{place}.{key}", inner, folder) for key, inner in value.items()}
    return [placed_at(f"{place}[]", inner, folder) for inner in value] if isinstance(value, list) else value


def _checkpoint(folder: Path, name: str) -> str:
    """A checkpoint is a path if it looks like one or exists; otherwise it is a name on the hub."""
    there = name and (from_current(folder) / name).exists()
    return written_in(folder, name) if there or is_path(name) else name


# Dotted key -> the rewriting of its value.
_KEYS: Mapping[str, Callable[[Path, str], str]] = {
    "store": written_in,
    "results": written_in,
    "problems.path": written_in,
    "policy.hf": _checkpoint,
    "sampler.folder": written_in,
    "teacher.ledger": written_in,
}
_PATHS = {
    **_KEYS,
    **{f"{grid}.{key}[]": rewriting for grid in ("grid", "grid[]") for key, rewriting in _KEYS.items()},
    "imports[]": written_in,
    "evaluation.sets[].problems.path": written_in,
}
