"""Read a sweep file strictly: a ConfigError has a line for each mistake, with file, dotted key, value and cure.

In: a path and `--set` overrides. Out: `Sweep`, with all of its cells validated. Nothing in YAML is executed.
"""

import itertools
import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data.sets.splits import TENTHS, pool_size
from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError, did_you_mean
from scaling.config.section import Section
from scaling.config.sweep import Cell, Sweep, cell_schema, sweep_schema
from scaling.config.text_problems import TextProblems
from scaling.config.training import Rft, StepDpo
from scaling.planning.checks import check_analysis, check_attention, check_sampler, check_set, check_test_sets
from scaling.planning.explain import explained, known_beside, unknown_key
from scaling.planning.grid import axes, cell_at, cells, dotted_keys
from scaling.planning.written_paths import placed, placed_at
from scaling.plugins import load_plugins

MAX_RUNS = 100_000  # of one grid: a plan of this size takes about a minute
SWEEP_KEYS = tuple(key for key in Sweep.model_fields if key != "fixed")  # at the top of a file, beside a cell's


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, where 1e-4 is a number as it is everywhere else, and 010 and 1:30 are none."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self.mistakes: list[str] = []

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number: int = super().construct_yaml_int(node)
        digits = node.value.lstrip("+-")
        if ":" in digits or (digits[:1] == "0" and digits.isdecimal() and len(digits) > 1):
            self.mistakes.append(
                f"line {node.start_mark.line + 1} has {node.value}, which YAML reads as {number}; write the number that"
                " you mean, without a leading zero and without colons."
            )
        return number

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
                self.mistakes.append(f"line {line} repeats the key {key!r}; keep one of the two.")
            seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
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
        document, mistakes = _load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        held = "nothing" if document is None else f"a {type(document).__name__}"
        raise ConfigError(
            f"{path} holds {held}; expected a mapping with the keys {', '.join(SWEEP_KEYS)}"
            " and sections such as problems, policy, sft."
        )
    document = placed(document, path.parent)
    for override in overrides:
        _override(document, override, path)
    _import(document.get("imports", []), path)
    sweep = _parse(document, mistakes)
    if mistakes:
        lines = "\n".join(mistakes).splitlines()
        raise ConfigError("\n".join(f"{path}: {line}" for line in dict.fromkeys(lines)))
    assert sweep is not None
    return sweep


def _import(value: object, path: Path) -> None:
    """Import the user's modules, whose names the other keys may use."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"{path}: imports is {value!r}; expected a list of Python files, such as [orpo.py].")
    try:
        load_plugins([Path(item) for item in value])
    except ConfigError as error:
        raise ConfigError(f"{path}: imports: {str(error).removeprefix('--import ')}") from error


_CURES = {  # what PyYAML says -> what to do
    "'\\t'": "indent with blanks, not with tabs",
    "mapping values are not allowed": "quote a text that holds a colon, and indent the keys of a section alike",
    "<block end>": "indent the keys of a section alike",
    "undefined alias": "quote a text that begins with *",
    "another document": "leave out the line ---, so that the file is one document",
    "determine a constructor": "write plain values, without tags such as !x",
    "expected ':'": "write a key as `key: value`",
    "expected ','": "close the bracket, and put a comma between its values",
    "end of stream": "close the quote",
    "unacceptable character": "save the file as UTF-8 text",
}


def _load(text: str | bytes) -> tuple[object, list[str]]:
    """The value of a YAML text, and what is ambiguous in it. What is no YAML at all is a ConfigError of one line."""
    try:
        loader = _StrictLoader(text)
        return loader.get_single_data(), loader.mistakes
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as an impossible date, or 3000 brackets
        said, where = " ".join(str(error).split()), ""
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            said = str(error.problem)
            where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: "
        cure = next((f"; {cure}" for sign, cure in _CURES.items() if sign in said), "")
        raise ConfigError(f"this is not YAML: {where}{said}{cure}.") from error


_PLACEHOLDERS: Mapping[str, object] = {"question": "?", "grid": {"data_size": [1]}, "seeds": [0]}


def _parse(document: Mapping[str, Any], mistakes: list[str]) -> Sweep | None:
    """The sweep of a document. All mistakes are added: what does not involve a wrong key is checked all the same."""
    known = (*SWEEP_KEYS, *cell_schema().model_fields)
    unknown = [key for key in document if key not in known]
    mistakes += [unknown_key(str(key), known) for key in unknown]
    wrong: set[object] = set(unknown)
    sweep = _validated(document, mistakes, wrong)
    left_out: set[object] = set()
    while sweep is None and wrong != left_out:
        left_out = set(wrong)
        sound = {key: value for key, value in document.items() if key not in wrong}
        sweep = _validated({**_PLACEHOLDERS, **sound}, mistakes, wrong)
    for check, keys in _CHECKS:
        if sweep is not None and not keys & wrong:
            try:
                found = [*check(sweep)]
            except ConfigError as error:
                found = [str(error)]
            mistakes += found
            wrong |= {"grid"} if check is _check_axes and found else set()  # it has no cells
    return sweep


def _validated(document: Mapping[str, Any], mistakes: list[str], wrong: set[object]) -> Sweep | None:
    """The sweep of a document if it fits the schema; otherwise its mistakes, and the keys at the top with some."""
    fixed = {key: value for key, value in document.items() if key in cell_schema().model_fields}
    sections = {key: value for key, value in document.items() if key in SWEEP_KEYS}
    if "grid" in sections:
        before = len(mistakes)
        sections["grid"] = _grids(sections["grid"], mistakes)
        wrong |= {"grid"} if len(mistakes) > before else set()
    parsed: list[Section] = []
    for schema, values in ((sweep_schema(), {**sections, "fixed": fixed}), (cell_schema(), fixed)):
        try:
            parsed.append(schema.model_validate(values))
        except ValidationError as error:
            for place, sentence in explained(error, schema).items():
                key = re.split(r"[.\[ ]", place or sentence)[0]  # a mistake of several sections begins with one of them
                if key != "grid" or "grid" not in document:  # _grids has checked it
                    mistakes.append(sentence)
                    wrong.add(key)
    sweep = parsed[0] if len(parsed) == 2 else None
    assert sweep is None or isinstance(sweep, Sweep)
    if sweep is not None and any(key.partition(".")[0] in wrong for key in axes(sweep)):
        wrong.add("grid")  # its points cannot be told without the section
    return sweep


def _grids(value: object, mistakes: list[str]) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """One grid or a list of grids, each axis a non-empty list; the mistakes of all axes are added to `mistakes`."""
    grids = value if isinstance(value, list) else [value]
    if not grids:
        mistakes.append("grid is empty; give at least one axis, such as algorithm: [sft, rft].")
    checked = []
    for index, grid in enumerate(grids):
        where = "grid" if not isinstance(value, list) else f"grid[{index}]"
        if not isinstance(grid, dict) or not grid:
            mistakes.append(
                f"{where} is {'empty' if grid in (None, {}) else repr(grid)}; it maps dotted keys to lists of values,"
                " such as algorithm: [sft, rft]."
            )
            continue
        for key, values in grid.items():
            mistakes += _about_axis(str(key), f"{where}.{key}", values)
        checked.append({key: tuple(values) for key, values in grid.items() if isinstance(values, list)})
    return tuple(checked)


def _about_axis(key: str, where: str, values: object) -> list[str]:
    if key not in dotted_keys():
        return [_about_key(key, where)]
    if not isinstance(values, list):
        example = "[64, 128]" if values is None or isinstance(values, dict) else f"[{values!r}]"
        return [
            f"{where} is {'empty' if values is None else repr(values)}; an axis is a list of values, such as"
            f" {example}. A value that does not vary goes into its section."
        ]
    if not values:
        return [f"{where} is an empty axis; list at least one value."]
    return _repeated(where, values)


def _check_axes(sweep: Sweep) -> Iterator[str]:
    for index, grid in enumerate(sweep.grid):
        where = "grid" if len(sweep.grid) == 1 else f"grid[{index}]"
        both = [key for key in grid if _is_set(sweep.fixed, key)]
        yield from (f"{where}.{key} is an axis, and {key} is also fixed; remove one of the two." for key in both)
        if not both:
            yield from _about_points(sweep, grid, where)


def _check_pool(sweep: Sweep) -> Iterator[str]:
    """Reject a data_size or held-out set that exceeds the distinct problems of the family."""
    pools: dict[str, dict[str, int]] = {}
    for cell in cells(sweep):
        if isinstance(cell.problems, TextProblems):
            check_set(cell, cell.problems)
            continue
        key = cell.problems.model_dump_json()
        pool = pools.setdefault(key, {split: pool_size(cell.problems, split) for split in TENTHS})
        for where, split, size in (
            ("data_size", "train", cell.data_size),
            ("problems.num_validation", "validation", cell.problems.num_validation),
            ("problems.num_test", "test", cell.problems.num_test),
        ):
            if size > pool[split]:
                yield (
                    f"{where} is {size}, but with these settings the family {cell.problems.family} offers about"
                    f" {pool[split]} distinct {split} problems; ask for fewer, or enlarge the family (modulus,"
                    " operands, num_nodes)."
                )
                return


def _check_seeds(sweep: Sweep) -> Iterator[str]:
    yield from _repeated("seeds", sweep.seeds)


def _check_select(sweep: Sweep) -> Iterator[str]:
    if (select := sweep.select) is None:
        return
    yield from _repeated("select.seeds", select.seeds)
    if shared := sorted(set(select.seeds) & set(sweep.seeds)):
        yield f"select.seeds and seeds share {shared}; selection needs seeds of its own, such as 100."
    for algorithm in algorithm_names():
        candidates = {f"{algorithm}.{key}": values for key, values in select.candidates_of(algorithm).items()}
        mistakes = [mistake for key, values in candidates.items() for mistake in _about_candidates(sweep, key, values)]
        yield from mistakes or _about_points(sweep, candidates, "select")


def _about_candidates(sweep: Sweep, dotted: str, values: Sequence[object]) -> list[str]:
    where = f"select.{dotted}"
    if dotted not in dotted_keys():
        return [_about_key(dotted, where)]
    if not values:
        return [f"{where} is empty; list the candidate values."]
    if repeated := _repeated(where, values):
        return repeated
    taken = "an axis" if dotted in axes(sweep) else "also fixed" if _is_set(sweep.fixed, dotted) else ""
    return [f"{where} selects a key that is {taken}; remove one of the two."] if taken else []


def _about_points(sweep: Sweep, varied: Mapping[str, Sequence[object]], where: str) -> Iterable[str]:
    """Invalid combinations of the varied keys' values, and more runs than can be planned.

    Every value that is wrong by itself is named; of combinations, the first one that is wrong.
    """
    seeds = sweep.select.seeds if where == "select" and sweep.select else sweep.seeds
    num_runs = math.prod(map(len, varied.values())) * len(seeds)
    if num_runs > MAX_RUNS:
        return [
            f"{where} has {num_runs} runs (the product of its axes and {len(seeds)} seeds); at most {MAX_RUNS} can be"
            " planned. Shorten an axis, or give a list of smaller grids."
        ]
    mistakes: dict[str, str] = {}  # by place
    for values in itertools.product(*varied.values()):
        settings = dict(zip(varied, values, strict=True))
        at = f"{where} at {', '.join(f'{key} = {value!r}' for key, value in settings.items())}"
        try:
            cell = cell_at(sweep, settings)
        except ValidationError as error:
            for location, sentence in explained(error, cell_schema(), settings).items():
                axis = next((key for key in settings if location == key or location.startswith(f"{key}[")), None)
                if axis is None:
                    mistakes.setdefault("", f"{at}: {sentence}")
                    continue
                position = [*map(repr, varied[axis])].index(repr(settings[axis]))
                place = f"{where}.{axis}[{position}]"
                reason = sentence.removeprefix(f"{location} is {settings[axis]!r}; ")
                mistakes[place] = f"{place} is {settings[axis]!r}; {reason}"
            continue
        if not mistakes and (needing := _unbiased_use(cell)):
            return [
                f"{at}: step_values.adaptive is true, which finds first pits by the rule 'lowest' and leaves other Q"
                f" unknown, but {needing} needs an unbiased Q of every step; set step_values.adaptive: false there."
            ]
    if any(mistakes):
        mistakes.pop("", None)  # it may follow from the others
    return mistakes.values()


def _unbiased_use(cell: Cell) -> str | None:
    """What needs an unbiased Q of every step, where step values are adaptive."""
    keep = cell.section(Rft).keep
    needs = {
        "step_dpo.pit_rule = 'largest_drop'": cell.section(StepDpo).pit_rule == "largest_drop",
        "step_dpo.chosen = 'highest_value'": cell.section(StepDpo).chosen == "highest_value",
        "algorithm = 'step_rft'": cell.algorithm == "step_rft",
        f"rft.keep = {keep!r}": cell.algorithm == "rft" and keep in ("low_value", "high_value"),
    }
    return next((name for name, needed in needs.items() if needed and cell.step_values.adaptive), None)


def _about_key(dotted: str, where: str) -> str:
    """Why a key cannot be an axis or selected."""
    if members := [key for key in dotted_keys() if key.startswith(f"{dotted}.")]:
        return f"{where} is a section; name one of its keys, such as {members[0]!r}."
    top = "seeds" if dotted == "seed" else dotted.partition(".")[0]
    if top in (*SWEEP_KEYS, "sampler"):
        return f"{where} is no axis, for a sweep has one value of it; write {top} at the top of the file."
    known = known_beside(dotted, cell_schema()) if "." in dotted else tuple(dotted_keys())
    return f"{where}: unknown key {dotted!r}.{did_you_mean(dotted, known)}"


def _repeated(where: str, values: Sequence[object]) -> list[str]:
    alike = [(isinstance(value, bool), value) for value in values]  # 1 is not true
    return [
        f"{where}[{index}] repeats {value!r}; list each value once."
        for index, value in enumerate(values)
        if alike[index] in alike[:index]
    ]


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
        value, mistakes = _load(text)
        if mistakes:
            raise ConfigError("\n".join(mistakes))
    except ConfigError as error:
        raise ConfigError(f"--set {override!r}: {error}") from error
    *parents, leaf = dotted.split(".")
    # The key of an axis contains a dot itself: grid.rft.max_positives names the axis "rft.max_positives".
    if parents[:1] == ["grid"]:
        parents, leaf = ["grid"], ".".join([*parents[1:], leaf])
    node: Any = document
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override!r}: {path} has no mapping at {'.'.join(parents)!r} to set {leaf!r} in.")
    node[leaf] = placed_at(dotted, value, Path())


# Each check, which yields its mistakes or raises the first one, and the keys at the top without which it says nothing.
_CHECKS: Sequence[tuple[Callable[[Sweep], Iterable[str]], set[object]]] = (
    (_check_axes, {"grid"}),
    (_check_seeds, {"seeds"}),
    (_check_select, {"select", "seeds", "grid"}),
    (_check_pool, {"grid", "data_size", "problems", "policy", "teacher"}),
    (check_test_sets, {"grid", "problems", "policy", "evaluation"}),
    (check_sampler, {"grid", "resources", "sampler"}),
    (check_attention, {"grid", "memory", "policy", "resources", "sampler"}),
    (check_analysis, {"grid", "algorithm", "analysis", "labels"}),
)
