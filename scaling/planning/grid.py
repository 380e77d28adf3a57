"""The grid of a sweep: its axes, and the cell at each of its points.

In: `Sweep`. Out: `Cell`s with every setting resolved, and the dotted keys that can be an axis.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell, Sweep, cell_schema


def cells(sweep: Sweep) -> tuple[Cell, ...]:
    """Every point of the grids, in order, the last axis fastest; a point that two grids share appears once."""
    points: dict[str, Cell] = {}
    for grid in sweep.grid:
        for values in itertools.product(*grid.values()):
            cell = cell_at(sweep, dict(zip(grid, values, strict=True)))
            points.setdefault(cell.model_dump_json(), cell)
    return tuple(points.values())


def narrowed(sweep: Sweep, only: Sequence[str]) -> Sweep:
    """The sweep with a part of its grid: `only` holds KEY=VALUE pairs, several separated by commas.

    A key given several times has several values. Raises ConfigError for what the grid does not have.
    """
    wanted: dict[str, list[object]] = {}
    for pair in (part for text in only for part in text.split(",")):
        key, value = key_and_value(pair, "--only", "algorithm=rft or seed=0")
        wanted.setdefault(key, []).append(value)
    known: dict[str, list[object]] = {"seed": list(sweep.seeds)}
    for grid in sweep.grid:
        for key, values in grid.items():
            known[key] = [*known.get(key, []), *(value for value in values if value not in known.get(key, []))]
    for key, chosen in wanted.items():
        if key not in known:
            raise ConfigError(f"--only {key}: the grid varies {', '.join(known)}; nothing else tells its runs apart.")
        absent = [value for value in chosen if value not in known[key]]
        if absent:
            raise ConfigError(
                f"--only {key}={absent[0]}: the sweep has {', '.join(map(str, known[key]))}; give one of these."
            )
    wanted_seeds = wanted.pop("seed", list(sweep.seeds))
    seeds = tuple(seed for seed in sweep.seeds if seed in wanted_seeds)
    grids = (
        {key: tuple(value for value in values if value in wanted.get(key, values)) for key, values in grid.items()}
        for grid in sweep.grid
        if wanted.keys() <= grid.keys()
    )
    left = tuple(grid for grid in grids if all(grid.values()))
    if not left:
        raise ConfigError(f"--only {','.join(only)}: no grid of the sweep combines these values.")
    return sweep.model_copy(update={"grid": left, "seeds": seeds})


def key_and_value(pair: str, option: str, example: str) -> tuple[str, object]:
    """KEY=VALUE of the command line, whose value is YAML. Raises ConfigError for other text."""
    key, equals, text = pair.partition("=")
    if not equals:
        raise ConfigError(f"{option} {pair}: expected KEY=VALUE, such as {example}.")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{option} {pair}: {text!r} is not YAML; close its brackets and quotes, and give one value."
        ) from error


def axes(sweep: Sweep) -> tuple[str, ...]:
    """The dotted keys that any grid varies, in the order of the file."""
    return tuple(dict.fromkeys(key for grid in sweep.grid for key in grid))


def cell_at(sweep: Sweep, settings: Mapping[str, object]) -> Cell:
    """The fixed sections with these dotted keys set."""
    return cell_schema().model_validate(_with_settings(sweep.fixed, settings))


def dotted_keys() -> Iterator[str]:
    """Every key of the schema that can be an axis; a nested section is replaced by its own keys."""
    return (key for key in _keys_below("", cell_schema()) if not key.startswith("sampler."))  # who samples is no axis


def sections_of(schema: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The sections that a key may hold: one, one or null, one of the problem families, or none."""
    annotation = schema.model_fields[key].annotation if key in schema.model_fields else None
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def _keys_below(prefix: str, schema: type[BaseModel]) -> Iterator[str]:
    for key in schema.model_fields:
        inner = sections_of(schema, key)
        if not inner:
            yield prefix + key
        for section in inner:
            yield from _keys_below(f"{prefix}{key}.", section)


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
