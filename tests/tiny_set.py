"""Small sets of problems in plain language, written as their families publish them."""

from pathlib import Path

from data.records import write_jsonl


def gsm8k_rows(first: int, count: int) -> list[dict]:
    """Row i has i % 3 + 1 steps, and the answer i % 10."""
    rows = []
    for index in range(first, first + count):
        steps = [f"Step {step} is <<{step}+0={step}>>{step}." for step in range(index % 3 + 1)]
        rows.append({"question": f"How much is {index}?", "answer": "\n".join([*steps, f"#### {index % 10}"])})
    return rows


def gsm8k_folder(folder: Path, num_train: int = 30, num_test: int = 12) -> Path:
    """A folder with train.jsonl and test.jsonl."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "train.jsonl", gsm8k_rows(0, num_train))
    write_jsonl(folder / "test.jsonl", gsm8k_rows(1000, num_test))
    return folder


def own_rows(path: Path, rows: list[dict]) -> Path:
    """A file of a user's own rows."""
    write_jsonl(path, rows)
    return path
