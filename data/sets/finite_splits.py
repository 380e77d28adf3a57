"""Training, validation and test problems of a finite set: its own test split, and parts of the rest by a fixed seed.

In: the config and the imported set (data.sets.problem_source). Out: `Parts`. The test problems are the first num_test
of a fixed shuffle of the set's test split; the validation problems are taken from train by a fixed seed, or from the
set's own validation split; the rest of train is the pool of D_syn. A set in one file is split as a whole.
A seed shuffles the pool, so the sizes of a seed are nested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.problems.text_problems import prompt_of
from data.records import Problem, read_jsonl
from data.sets.problem_files import ALL, set_files
from scaling.config.problems import ProblemsInLanguage
from scaling.config.text_problems import HubProblems

_SHUFFLES: Mapping[str, int] = {ALL: 0xF173, "train": 0xF171, "validation": 0xF172, "test": 0xF173}  # file -> key
_STREAM = 0xF174
Item = TypeVar("Item")
# Rows of the families' default sets, so that a plan knows them without the hub.
_HUB_ROWS: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("openai/gsm8k", "main"): {"train": 7473, "test": 1319},
    ("DigitalLearningGmbH/MATH-lighteval", "default"): {"train": 7500, "test": 5000},
}


@dataclass(frozen=True)
class Parts:
    """The problems of a set, in a fixed order; no problem is in two parts."""

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    test: tuple[Problem, ...]


def parts(config: ProblemsInLanguage, source: Path) -> Parts:
    """Split an imported set. A part with its own file is complete; its configured size is applied later."""
    rows = {name: shuffled(_problems(config, source / f"{name}.jsonl"), key) for name, key in _SHUFFLES.items()}
    counts = {split: len(found) for split, found in rows.items() if found}
    _check_carved(config, counts)
    if rows[ALL]:
        test, train, validation = rows[ALL][: config.num_test], rows[ALL][config.num_test :], []
    else:
        test, train, validation = rows["test"], rows["train"], rows["validation"]
    if not validation:
        validation, train = train[: config.num_validation], train[config.num_validation :]
    keys = [{problem.key for problem in part} for part in (train, validation, test)]
    if sum(map(len, keys)) != len(set.union(*keys)):
        raise ValueError(f"{source}: a problem is in two of train, validation and test; the artifact was edited.")
    return Parts(tuple(train), tuple(validation), tuple(test))


def set_sizes(config: ProblemsInLanguage) -> dict[str, int] | None:
    """Problems that each split offers, as far as a plan can know: duplicates are found later.

    None: only the hub knows.
    """
    rows = rows_known(config)
    if rows is None:
        return None
    if ALL in rows:
        return {
            "train": rows[ALL] - config.num_validation - config.num_test,
            "validation": rows[ALL] - config.num_test,
            "test": rows[ALL] - config.num_validation,
        }
    if "validation" in rows:
        return dict(rows)
    return {**rows, "train": rows["train"] - config.num_validation, "validation": rows["train"] - 1}


def rows_known(config: ProblemsInLanguage) -> Mapping[str, int] | None:
    """Rows of each split that a plan knows of without the hub."""
    if config.path is not None:
        return {split: file.num_rows for split, file in set_files(config.path).items()}
    return _HUB_ROWS.get((config.hub, config.subset)) if isinstance(config, HubProblems) else None


def check_counts(config: ProblemsInLanguage, rows: Mapping[str, int]) -> None:
    """Raise ValueError where the held-out problems do not fit into a set of so many rows."""
    _check_carved(config, rows)
    for split, count in (("test", config.num_test), ("validation", config.num_validation)):
        if split in rows:
            check_held_out(split, count, rows[split])


def check_held_out(split: str, count: int, there: int) -> None:
    """Raise ValueError where a split of the set has fewer problems than asked for."""
    if count > there:
        raise ValueError(f"problems.num_{split} is {count}, but the set has {there} {split} problems; lower it.")


def in_order_of(seed: int, items: Sequence[Item]) -> list[Item]:
    """Problems, or their rows, in a seed's order."""
    return shuffled(items, [_STREAM, seed])


def shuffled(items: Sequence[Item], key: int | Sequence[int]) -> list[Item]:
    """The items in the order of a key's generator."""
    return [items[index] for index in np.random.default_rng(key).permutation(len(items))]


def _check_carved(config: ProblemsInLanguage, rows: Mapping[str, int]) -> None:
    """Check that held-out problems leave some to train on."""
    if ALL in rows and config.num_test + config.num_validation >= rows[ALL]:
        raise ValueError(
            f"problems.num_test is {config.num_test} and num_validation {config.num_validation}, but the set has"
            f" {rows[ALL]} problems in all; lower them, so that some are left to train on."
        )
    if ALL not in rows and "validation" not in rows and config.num_validation >= rows["train"]:
        raise ValueError(
            f"problems.num_validation is {config.num_validation}, to be taken from {rows['train']} training problems;"
            " lower it, so that some are left to train on."
        )


def _problems(config: ProblemsInLanguage, path: Path) -> list[Problem]:
    if not path.exists():
        return []
    rows = read_jsonl(path, keys=("problem", "answer", "solution"))
    return [Problem(prompt_of(config, row["problem"]), row["answer"], row["solution"]) for row in rows]
