"""The source of a stage's problems: a family's law, or the rows of an imported set.

In: the family's config, and a stage's inputs; for a set `source`, and `solvable` if the base policy has chosen among
its training problems. Out: the training problems of a seed, and the held-out problems.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.records import Problem, read_jsonl, write_jsonl
from data.sets.finite_splits import check_held_out, in_order_of, parts
from data.sets.splits import Split, held_out, stream
from scaling.config.problems import Problems
from scaling.config.text_problems import TextProblems

ROWS_FILE, ORDER_FILE = "solvable.jsonl", "order.json"  # of the stage `solvable`
_KEYS = ("prompt", "answer", "solution", "num_steps", "num_correct")


def training_problems(config: Problems, inputs: Mapping[str, Path], seed: int, count: int) -> list[Problem]:
    """The first `count` training problems of a seed; nested in count."""
    if not isinstance(config, TextProblems):
        return stream(config, seed, count)
    if "solvable" in inputs:
        kept, tried = kept_problems(inputs["solvable"], seed)
        if count > len(kept):
            raise ValueError(
                f"data_size is {count}, but of {tried} training problems that were tried the base policy solves only"
                f" {len(kept)} often enough; lower data_size, or raise problems.solvable.num_candidates or samples."
            )
        return kept[:count]
    pool = parts(config, inputs["source"]).train
    if count > len(pool):
        raise ValueError(
            f"data_size is {count}, but the set has {len(pool)} training problems beside its validation problems;"
            " lower data_size."
        )
    return in_order_of(seed, pool)[:count]


def held_out_problems(config: Problems, inputs: Mapping[str, Path]) -> dict[Split, list[Problem]]:
    """The validation and test problems: the same for all seeds of a sweep."""
    if not isinstance(config, TextProblems):
        return held_out(config)
    found = parts(config, inputs["source"])
    check_held_out("validation", config.num_validation, len(found.validation))
    check_held_out("test", config.num_test, len(found.test))
    return {
        "validation": list(found.validation[: config.num_validation]),
        "test": list(found.test[: config.num_test]),
    }


def write_kept(out: Path, rows: Iterable[Mapping[str, object]], order: str, num_tried: int) -> None:
    """Write the problems that the base policy sometimes solves.

    rows: prompt, answer, solution, num_steps and num_correct.
    """
    write_jsonl(out / ROWS_FILE, rows)
    (out / ORDER_FILE).write_text(json.dumps({"order": order, "num_tried": num_tried}) + "\n", encoding="utf-8")


def kept_problems(folder: Path, seed: int) -> tuple[list[Problem], int]:
    """The kept problems in a seed's order, and how many were tried.

    With `fewest_steps` those with the fewest steps come first, and the seed breaks ties; with `random` it shuffles.
    """
    rows = in_order_of(seed, read_jsonl(folder / ROWS_FILE, keys=_KEYS))
    written = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
    if written["order"] == "fewest_steps":
        rows.sort(key=lambda row: row["num_steps"])  # stable
    return [Problem(row["prompt"], row["answer"], row["solution"]) for row in rows], int(written["num_tried"])
