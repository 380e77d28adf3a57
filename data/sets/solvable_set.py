"""The training problems that a base policy solves sometimes, as the stage `solvable` leaves them.

In: its artifact. Out: the kept problems in a seed's order: with `fewest_steps` those with the fewest steps first, and
the seed decides among equals; with `random` it shuffles them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.records import Problem, read_jsonl, write_jsonl
from data.sets.finite_splits import in_order_of

ROWS_FILE, ORDER_FILE = "solvable.jsonl", "order.json"
_KEYS = ("prompt", "answer", "solution", "num_steps", "num_correct")


def write_kept(out: Path, rows: Iterable[Mapping[str, object]], order: str, num_tried: int) -> None:
    """rows: prompt, answer, solution, num_steps and num_correct of each kept problem."""
    write_jsonl(out / ROWS_FILE, rows)
    (out / ORDER_FILE).write_text(json.dumps({"order": order, "num_tried": num_tried}) + "\n", encoding="utf-8")


def kept_problems(folder: Path, seed: int) -> tuple[list[Problem], int]:
    """The kept problems in a seed's order, and how many were tried."""
    rows = read_jsonl(folder / ROWS_FILE, keys=_KEYS)
    told = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
    problems = [Problem(row["prompt"], row["answer"], row["solution"]) for row in rows]
    num_steps = {problem.key: row["num_steps"] for problem, row in zip(problems, rows, strict=True)}
    ordered = in_order_of(seed, problems)
    if told["order"] == "fewest_steps":
        ordered.sort(key=lambda problem: num_steps[problem.key])  # stable
    return ordered, told["num_tried"]
