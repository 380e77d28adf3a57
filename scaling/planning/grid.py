"""The grid of a sweep: its axes, and the cell at each of its points.

In: `Sweep`. Out: `Cell`s with every setting resolved, and the dotted keys that can be an axis.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from scaling.config.sweep import Cell, Sweep, cell_schema


def cells(sweep: Sweep) -> tuple[Cell, ...]:
    """Every point of the grids, in order, the last axis fastest; a point that two grids share appears once."""
    points: dict[str, Cell] = {}
    for grid in sweep.grid:
        for values in itertools.product(*grid.values()):
            cell = cell_at(sweep, dict(zip(grid, values, strict=True)))
            points.setdefault(cell.model_dump_json(), cell)
    return tuple(points.values())


def axes(sweep: Sweep) -> tuple[str, ...]:
    """The dotted keys that any grid varies, in the order of the file."""
    return tuple(dict.fromkeys(key for grid in sweep.grid for key in grid))


def cell_at(sweep: Sweep, settings: Mapping[str, object]) -> Cell:
    """The fixed sections with these dotted keys set."""
    return cell_schema().model_validate(_with_settings(sweep.fixed, settings))


def dotted_keys() -> Iterator[str]:
    """Every key of the schema that can be an axis."""
    yield "algorithm"
    yield "data_size"
    yield "rounds"
    schema = cell_schema().model_json_schema()
    for section, reference in schema["properties"].items():
        names = [item["$ref"] for item in reference.get("oneOf", [])] or [reference.get("$ref", "")]
        for name in filter(None, names):
            yield from _keys_below(section, name, schema["$defs"])


def _keys_below(section: str, reference: str, definitions: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a section; a nested section that may be null is replaced by its own keys."""
    for key, field in definitions[reference.rsplit("/", 1)[1]]["properties"].items():
        inner = [item["$ref"] for item in field.get("anyOf", []) if "$ref" in item]
        if inner:
            yield from _keys_below(f"{section}.{key}", inner[0], definitions)
        else:
            yield f"{section}.{key}"


def _with_settings(fixed: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    merged: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in fixed.items()}
    for dotted, value in settings.items():
        *sections, key = dotted.split(".")
        node = merged
        for section in sections:
            empty: dict[str, object] = {"family": "modular_sum"} if section == "problems" else {}
            node[section] = {**empty, **(node.get(section) or {})}
            node = node[section]
        node[key] = value
    return merged
