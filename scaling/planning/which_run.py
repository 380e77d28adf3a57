"""Select runs of a plan by their axis values.

In: runs, and values such as {"algorithm": "rft", "data_size": 256, "seed": 6}. Out: the runs that have them.
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from scaling.config.errors import ConfigError, nearest
from scaling.planning.grid import key_and_value
from scaling.planning.plan import Run
from scaling.stage import Stage


def values_of(run: Run) -> dict[str, object]:
    """The values that distinguish a run from the others of its sweep."""
    return {**run.axis_values, "algorithm": run.cell.algorithm, "seed": run.seed}


def runs_with(runs: Iterable[Run], where: Mapping[str, object], file: Path) -> list[Run]:
    """The runs with these values, at least one. Raises ConfigError for a key or value that no run has."""
    named = [(values_of(run), run) for run in runs]
    known = {key: distinct(values[key] for values, _ in named) for key in named[0][0]}
    for key, value in where.items():
        if key not in known:
            hint = nearest(key, tuple(known))
            raise ConfigError(
                f"where has {key!r}, which does not vary between runs of {file}; expected {', '.join(known)}.{hint}"
            )
        if value not in known[key]:
            hint = nearest(value, [name for name in known[key] if isinstance(name, str)])
            raise ConfigError(f"where has {key} = {value!r}; the runs of {file} have {listed(known[key])}.{hint}")
    found = [run for values, run in named if all(values[key] == where[key] for key in where)]
    if not found:
        raise ConfigError(f"{file} has no run with {stated(where)}: its grids do not combine these values.")
    return found


def pit_rule(stages: Mapping[str, Stage]) -> str:
    """The pit rule of a run's pairs, from its stages by kind; the default for runs that make none."""
    if "step_pairs" not in stages:
        return "lowest"
    settings = stages["step_pairs"].config["pairs"]
    assert isinstance(settings, Mapping)
    return str(settings["pit_rule"])


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command about one run."""
    parser.add_argument("--algorithm", metavar="NAME")
    parser.add_argument("--data-size", type=int, metavar="D")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="the run's value on an axis")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")


def asked_where(arguments: argparse.Namespace) -> dict[str, object]:
    """The values from these options. Raises ConfigError for one without a value."""
    chosen: dict[str, object] = {}
    for pair in arguments.where:
        _choose(chosen, *key_and_value(pair, "--where", "data_size=256"))
    for key in ("algorithm", "data_size", "seed"):
        if getattr(arguments, key) is not None:
            _choose(chosen, key, getattr(arguments, key))
    return chosen


def _choose(chosen: dict[str, object], key: str, value: object) -> None:
    if chosen.setdefault(key, value) != value:
        raise ConfigError(f"{key} is to be {chosen[key]!r} and {value!r}, but a run has one value; give one of them.")


def left_open(runs: Iterable[Run]) -> str:
    """The keys in which the runs differ, with their values."""
    named = [values_of(run) for run in runs]
    several = {key: found for key in named[0] if len(found := distinct(values[key] for values in named)) > 1}
    return ", ".join(f"{key} ({listed(found)})" for key, found in several.items())


def distinct(values: Iterable[object]) -> list[object]:
    """Distinct values in order; values may be lists, which a set cannot hold."""
    found: list[object] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def stated(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={'null' if value is None else value}" for key, value in values.items())


def listed(values: Iterable[object]) -> str:
    return ", ".join("null" if value is None else repr(value) for value in values)  # as an option takes it
