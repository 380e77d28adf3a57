"""The stages of one run, by kind, and the same run with other settings."""

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel

from scaling.config.algorithms import algorithm_names
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.stage import Stage, in_order

ALGORITHMS = tuple(algorithm_names())
FAMILIES = ("modular_sum", "star_graph", "ledger")


def cell_of(algorithm: str, family: str = "modular_sum") -> Cell:
    return Cell.of(**{"algorithm": algorithm, "problems": {"family": family}})


def by_kind(cell: Cell, seed: int = 0) -> dict[str, Stage]:
    """The stages of one run; each kind occurs once in it."""
    stages = in_order([recipes.evaluation(cell, seed)])
    assert max(Counter(stage.kind for stage in stages).values()) == 1
    return {stage.kind: stage for stage in stages}


def kinds_from(stage: Stage) -> set[str]:
    """The stage's kind and those of its ancestors."""
    return {ancestor.kind for ancestor in in_order([stage])}


def another(owner: BaseModel, key: str) -> object:
    """Another valid value of a key."""
    value, field = getattr(owner, key), type(owner).model_json_schema()["properties"][key]
    if "enum" in field:
        return field["enum"][(field["enum"].index(value) + 1) % len(field["enum"])]
    if value is None:
        return 9
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return [value[0] / 2 if isinstance(value[0], float) else value[0] - 1, *value[1:]]


def with_other(cell: Cell, keys: Iterable[str]) -> Cell:
    """The cell with another value for each dotted key."""
    merged = cell.model_dump()
    for dotted in keys:
        section, _, key = dotted.partition(".")
        if key:
            merged[section][key] = another(getattr(cell, section), key)
        else:
            merged[section] = another(cell, section)
    return Cell.of(**merged)
