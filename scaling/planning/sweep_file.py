"""Read a sweep file strictly: a ConfigError has a line for each mistake, with file, dotted key, value and cure.

In: a path and `--set` overrides. Out: `Sweep`, with all of its cells validated. Nothing in YAML is executed.
"""

import itertools
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data.sets.splits import TENTHS, pool_size
from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError, did_you_mean
from scaling.config.section import Section
from scaling.config.sweep import Cell, Select, Sweep, cell_schema, sweep_schema
from scaling.config.text_problems import TextProblems
from scaling.config.training import Rft, StepDpo
from scaling.planning.checks import check_analysis, check_sampler, check_set, check_test_sets
from scaling.planning.explain import explain, known_beside, location_of
from scaling.planning.grid import axes, cell_at, cells, dotted_keys
from scaling.planning.written_paths import placed
from scaling.plugins import load_plugins

MAX_RUNS = 100_000  # of one grid: a plan of this size takes about a minute
SWEEP_KEYS = (
    "question",
    "expectation",
    "grid",
    "seeds",
    "select",
    "analysis",
    "labels",
    "figure",
    "resources",
    "memory",
    "store",
    "results",
    "imports",
)


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, where 1e-4 is a number as it is everywhere else."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise ConfigError(
                    f"line {line} has a key that is not a plain word, or merges with <<; write the keys out."
                )
            key = self.construct_object(key_node)
            if key in seen:
                raise ConfigError(f"line {line} repeats the key {key!r}; keep one of the two.")
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a file, with `dotted.key=value` overrides put in before anything is checked.

    The file's paths are relative to it, those of the overrides to the current folder.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} {'is a directory' if path.exists() else 'does not exist'}. The shipped sweeps are in sweeps/."
        )
    try:
        document = _load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path} holds {_kind(document)}; expected a mapping with the keys {', '.join(SWEEP_KEYS)}"
            " and sections such as problems, policy, sft."
        )
    document = placed(document, path.parent)
    for override in overrides:
        _override(document, override, path)
    load_plugins(_imports(document.get("imports", []), path))
    return _parse(document, path)


def _imports(value: object, path: Path) -> list[Path]:
    """Import the user's modules, whose names the other keys may use."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"{path}: imports is {value!r}; expected a list of Python files, such as [orpo.py].")
    return [Path(item) for item in value]


def _load(text: str | bytes) -> object:
    """The value of a YAML text. Any mistake in it is a ConfigError of one line."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"this is not YAML: {where}{error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as an impossible date, or 3000 brackets
        raise ConfigError(f"this is not YAML: {' '.join(str(error).split())}") from error


def _parse(document: dict[str, Any], path: Path) -> Sweep:
    """The sweep of a document. Checks that need no other's success run all, so that their mistakes come together."""
    schema_of_cells, schema_of_sweeps = cell_schema(), sweep_schema()
    cell_sections = tuple(schema_of_cells.model_fields)
    mistakes: list[str] = []
    for key in document:
        if key not in SWEEP_KEYS and key not in cell_sections:
            mistakes.append(f"{path}: unknown key {key!r}.{did_you_mean(key, SWEEP_KEYS + cell_sections)}")
    fixed = {key: value for key, value in document.items() if key in cell_sections}
    sections = {key: value for key, value in document.items() if key in SWEEP_KEYS}
    if "grid" in sections:
        sections["grid"] = _grids(sections["grid"], path, mistakes)
    parsed: list[Section] = []
    for schema, values in ((schema_of_sweeps, {**sections, "fixed": fixed}), (schema_of_cells, fixed)):
        try:
            parsed.append(schema.model_validate(values))
        except ValidationError as error:
            grid_is_checked = "grid" in sections  # by _grids
            lines = [line for line in explain(error, schema) if not (grid_is_checked and line.startswith("grid"))]
            mistakes += [f"{path}: {line}" for line in lines]
    _raise_any(mistakes)
    sweep = parsed[0]
    assert isinstance(sweep, Sweep)
    with _noting(mistakes):
        _check_axes(sweep, path)
    with _noting(mistakes):
        _check_duplicates("seeds", sweep.seeds, path)
    if sweep.select is not None:
        with _noting(mistakes):
            _check_select(sweep, sweep.select, path)
    _raise_any(mistakes)  # the checks below look at cells, which must be there
    for check in (_check_pool, check_test_sets, check_sampler, check_analysis):
        with _noting(mistakes):
            check(sweep, path)
    _raise_any(mistakes)
    return sweep


@contextmanager
def _noting(mistakes: list[str]) -> Iterator[None]:
    """Keep the message of a ConfigError, and go on."""
    try:
        yield
    except ConfigError as error:
        mistakes.append(str(error))


def _raise_any(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _grids(value: object, path: Path, mistakes: list[str]) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """One grid or a list of grids, each axis a non-empty list; the mistakes of all axes are added to `mistakes`."""
    grids = value if isinstance(value, list) else [value]
    if not grids:
        mistakes.append(f"{path}: grid is empty; give at least one axis, such as algorithm: [sft, rft].")
    checked = []
    for index, grid in enumerate(grids):
        where = "grid" if not isinstance(value, list) else f"grid[{index}]"
        if not isinstance(grid, dict) or not grid:
            mistakes.append(f"{path}: {where} is {_kind(grid)}; it maps dotted keys to lists of values.")
            continue
        for key, values in grid.items():
            with _noting(mistakes):
                _check_axis(str(key), f"{where}.{key}", values, path)
        checked.append({key: tuple(values) for key, values in grid.items() if isinstance(values, list)})
    return tuple(checked)


def _check_axis(key: str, where: str, values: object, path: Path) -> None:
    _check_key(key, where, path)
    if not isinstance(values, list):
        raise ConfigError(
            f"{path}: {where} is {values!r}; an axis is a list of values, such as [{values!r}]."
            " A value that does not vary goes into its section."
        )
    if not values:
        raise ConfigError(f"{path}: {where} is an empty axis; list at least one value.")
    _check_duplicates(where, values, path)


def _check_axes(sweep: Sweep, path: Path) -> None:
    mistakes: list[str] = []
    for index, grid in enumerate(sweep.grid):
        where = "grid" if len(sweep.grid) == 1 else f"grid[{index}]"
        both = [key for key in grid if _is_set(sweep.fixed, key)]
        mistakes += [
            f"{path}: {where}.{key} is an axis, and {key} is also fixed; remove one of the two." for key in both
        ]
        if not both:
            with _noting(mistakes):
                _check_points(sweep, grid, where, path)
    _raise_any(mistakes)


def _check_pool(sweep: Sweep, path: Path) -> None:
    """Reject a data_size or held-out set that exceeds the distinct problems of the family."""
    pools: dict[str, dict[str, int]] = {}
    for cell in cells(sweep):
        if isinstance(cell.problems, TextProblems):
            check_set(cell, cell.problems, path)
            continue
        key = cell.problems.model_dump_json()
        pool = pools.setdefault(key, {split: pool_size(cell.problems, split) for split in TENTHS})
        for where, split, size in (
            ("data_size", "train", cell.data_size),
            ("problems.num_validation", "validation", cell.problems.num_validation),
            ("problems.num_test", "test", cell.problems.num_test),
        ):
            if size > pool[split]:
                raise ConfigError(
                    f"{path}: {where} is {size}, but with these settings the family {cell.problems.family} offers"
                    f" about {pool[split]} distinct {split} problems; ask for fewer, or enlarge the family (modulus,"
                    " operands, num_nodes)."
                )


def _check_select(sweep: Sweep, select: Select, path: Path) -> None:
    _check_duplicates("select.seeds", select.seeds, path)
    shared = sorted(set(select.seeds) & set(sweep.seeds))
    if shared:
        raise ConfigError(
            f"{path}: select.seeds and seeds share {shared}; selection needs seeds of its own, such as 100."
        )
    for algorithm in algorithm_names():
        for key, values in select.candidates_of(algorithm).items():
            where, dotted = f"select.{algorithm}.{key}", f"{algorithm}.{key}"
            _check_key(dotted, where, path)
            if not values:
                raise ConfigError(f"{path}: {where} is empty; list the candidate values.")
            _check_duplicates(where, values, path)
            if dotted in axes(sweep):
                raise ConfigError(f"{path}: {where} selects a key that is an axis; remove one of the two.")
            if _is_set(sweep.fixed, dotted):
                raise ConfigError(f"{path}: {where} selects a key that is also fixed; remove one of the two.")
        candidates = {f"{algorithm}.{key}": values for key, values in select.candidates_of(algorithm).items()}
        _check_points(sweep, candidates, "select", path)


def _check_points(sweep: Sweep, varied: Mapping[str, Sequence[object]], where: str, path: Path) -> None:
    """Reject invalid combinations of the varied keys' values, and more runs than can be planned."""
    seeds = sweep.select.seeds if where == "select" and sweep.select else sweep.seeds
    num_runs = math.prod(map(len, varied.values())) * len(seeds)
    if num_runs > MAX_RUNS:
        raise ConfigError(
            f"{path}: {where} has {num_runs} runs (the product of its axes and {len(seeds)} seeds); at most {MAX_RUNS}"
            " can be planned. Shorten an axis, or give a list of smaller grids."
        )
    for values in itertools.product(*varied.values()):
        settings = dict(zip(varied, values, strict=True))
        try:
            cell = cell_at(sweep, settings)
        except ValidationError as error:
            location = location_of(error.errors()[0])
            if location in settings:
                position = list(varied[location]).index(settings[location])
                place = f"{where}.{location}[{position}] is {settings[location]!r}"
            else:
                place = f"{where} at " + ", ".join(f"{key} = {value!r}" for key, value in settings.items())
            reason = explain(error, cell_schema())[0].removeprefix(f"{location} is {settings.get(location)!r}; ")
            raise ConfigError(f"{path}: {place}{'; ' if location in settings else ': '}{reason}") from error
        _check_adaptive(cell, settings, where, path)


def _check_adaptive(cell: Cell, settings: Mapping[str, object], where: str, path: Path) -> None:
    """Reject adaptive step values where something needs an unbiased Q of every step."""
    keep = cell.section(Rft).keep
    needs = {
        "step_dpo.pit_rule = 'largest_drop'": cell.section(StepDpo).pit_rule == "largest_drop",
        "step_dpo.chosen = 'highest_value'": cell.section(StepDpo).chosen == "highest_value",
        "algorithm = 'step_rft'": cell.algorithm == "step_rft",
        f"rft.keep = {keep!r}": cell.algorithm == "rft" and keep in ("low_value", "high_value"),
    }
    needing = next((name for name, needed in needs.items() if needed), None)
    if cell.step_values.adaptive and needing:
        place = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
        raise ConfigError(
            f"{path}: {where} at {place}: step_values.adaptive is true, which finds first pits by the rule 'lowest'"
            f" and leaves other Q unknown, but {needing} needs an unbiased Q of every step; set step_values.adaptive:"
            " false there."
        )


def _check_key(dotted: str, where: str, path: Path) -> None:
    if dotted not in dotted_keys():
        members = [key for key in dotted_keys() if key.startswith(f"{dotted}.")]
        if members:
            raise ConfigError(f"{path}: {where} is a section; name one of its keys, such as {members[0]!r}.")
        known = known_beside(dotted, cell_schema()) if "." in dotted else tuple(dotted_keys())
        raise ConfigError(f"{path}: {where}: unknown key {dotted!r}.{did_you_mean(dotted, known)}")


def _check_duplicates(where: str, values: Sequence[object], path: Path) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ConfigError(f"{path}: {where}[{index}] repeats {value!r}; list each value once.")


def _is_set(fixed: Mapping[str, object], dotted: str) -> bool:
    section, _, key = dotted.partition(".")
    if not key:
        return section in fixed
    inner = fixed.get(section)
    return isinstance(inner, Mapping) and _is_set(inner, key)


def _override(document: dict[str, Any], override: str, path: Path) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"--set {override!r}: write it as dotted.key=value, such as --set rft.max_positives=32.")
    try:
        value = _load(text)
    except ConfigError as error:
        raise ConfigError(f"--set {override!r}: {error}") from error
    *parents, leaf = dotted.split(".")
    # The key of an axis contains a dot itself: grid.rft.max_positives names the axis "rft.max_positives".
    if parents[:1] == ["grid"]:
        parents, leaf = ["grid"], ".".join([*parents[1:], leaf])
    value = _placed_at([*parents, leaf], value)
    node: Any = document
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override!r}: {path} has no mapping at {'.'.join(parents)!r} to set {leaf!r} in.")
    node[leaf] = value


def _placed_at(keys: Sequence[str], value: object) -> object:
    """The value of an override, its paths relative to the current folder."""
    document: Any = value
    for key in reversed(keys):
        document = {key: document}
    document = placed(document, Path())
    for key in keys:
        document = document[key]
    return document


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
