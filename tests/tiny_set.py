"""Small sets of problems in plain language, written as their families publish them, and a checkpoint for them."""

from dataclasses import replace
from pathlib import Path

import jax
from tiny_policy import CONFIG, random_params

from data.records import write_jsonl
from scaling.model.hf import save_checkpoint
from scaling.model.policy import Policy
from scaling.model.transformer import architecture

SHAPE = replace(CONFIG, vocab_size=264, max_positions=512)  # of tiny_tokenizer


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


def checkpoint(folder: Path) -> Path:
    """A random policy with the byte-level tokenizer and its chat template; needs transformers."""
    from tiny_tokenizer import TEMPLATE, save_tokenizer

    folder.mkdir(exist_ok=True)
    params = random_params(0, jax.eval_shape(architecture(SHAPE).init, jax.random.key(0)))
    save_checkpoint(Policy(params, SHAPE), folder)
    save_tokenizer(folder, TEMPLATE)
    return folder
