"""Rewrite the paths in a sweep's document: relative to the current folder, not to its file.

In: the document as it was read, and the folder that its paths are relative to. Out: the same document with new
paths. Everything else stays, including malformed values, which later checks report.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scaling.paths import from_current, is_path, written_in

Place = Callable[[Path, str], str]


def placed(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document, with its paths resolved from `folder`."""
    placed_document = dict(document)
    for dotted, place in _PATHS.items():
        section, _, key = dotted.partition(".")
        value = placed_document.get(section)
        if not key:
            placed_document |= {section: _value(value, folder, place)} if section in document else {}
        elif isinstance(value, Mapping) and key in value:
            placed_document[section] = {**value, key: _value(value[key], folder, place)}
    if isinstance(imports := placed_document.get("imports"), list):
        placed_document["imports"] = [_value(item, folder, written_in) for item in imports]
    if isinstance(evaluation := placed_document.get("evaluation"), Mapping) and isinstance(
        evaluation.get("sets"), list
    ):
        placed_document["evaluation"] = {**evaluation, "sets": [_test_set(one, folder) for one in evaluation["sets"]]}
    grid = placed_document.get("grid")
    if isinstance(grid, list):
        placed_document["grid"] = [_axes(item, folder) for item in grid]
    elif isinstance(grid, Mapping):
        placed_document["grid"] = _axes(grid, folder)
    return placed_document


def _test_set(one: object, folder: Path) -> object:
    """A further test set, whose problems may lie in another file."""
    problems = one.get("problems") if isinstance(one, Mapping) else None
    if not isinstance(one, Mapping) or not isinstance(problems, Mapping) or "path" not in problems:
        return one
    return {**one, "problems": {**problems, "path": _value(problems["path"], folder, written_in)}}


def _axes(grid: object, folder: Path) -> object:
    """A grid, whose axes may hold paths too."""
    if not isinstance(grid, Mapping):
        return grid
    return {
        key: [_value(value, folder, _PATHS[key]) for value in values]
        if key in _PATHS and isinstance(values, list)
        else values
        for key, values in grid.items()
    }


def _value(value: object, folder: Path, place: Place) -> object:
    return place(folder, value) if isinstance(value, str) else value


def _checkpoint(folder: Path, name: str) -> str:
    """A checkpoint is a path if it looks like one or exists; otherwise it is a name on the hub."""
    there = name and (from_current(folder) / name).exists()
    return written_in(folder, name) if there or is_path(name) else name


# Dotted key -> the rewriting of its value.
_PATHS: Mapping[str, Place] = {
    "store": written_in,
    "results": written_in,
    "problems.path": written_in,
    "policy.hf": _checkpoint,
    "sampler.folder": written_in,
    "teacher.ledger": written_in,
}
