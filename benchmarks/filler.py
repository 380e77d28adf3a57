"""Filler and compiled shapes in training on GSM8K, padded and packed: `python -m benchmarks.filler TRAIN.jsonl POLICY`.

In: the rows of GSM8K's training set (`question`, `answer`), and a checkpoint's .gguf file or folder, for its tokenizer.
Out: results/filler.json. Nothing is computed: the micro-batches of three epochs are made and counted, for one device
and for eight fake ones. SFT learns the solutions; of a pair the other completion is another problem's solution.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

from benchmarks import sides
from data.problems.row_readers import read_row
from data.problems.text_problems import prompt_of
from data.tokens.gguf_tokenizer import write_tokenizer
from data.tokens.hf_tokenizer import load_tokenizer
from scaling.config.memory import Memory
from scaling.config.text_problems import Gsm8k
from scaling.model.layout import AXES
from scaling.model.sharding import on_mesh
from scaling.model.sizes import ModelConfig
from scaling.training.batching import Schedule, cutter
from scaling.training.memory_settings import using_memory

EPOCHS = 3
# Work, rows of a batch, devices, and tokens of a micro-batch on each: an accelerator's and a CPU's default.
SETTINGS = (
    ("SFT", 64, 8, 8192),
    ("DPO", 64, 8, 8192),
    ("DPO", 32, 8, 8192),
    ("SFT", 64, 1, 8192),
    ("SFT", 4, 1, 320),
    ("DPO", 4, 1, 320),
    ("SFT", 8, 8, 8192),
)
# Only the vocabulary counts: that it is a checkpoint's.
SHAPE = ModelConfig(2**20, width=2, num_layers=1, num_heads=1, num_kv_heads=1, head_width=2, ffn_width=2)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filler", description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="train.jsonl of GSM8K")
    parser.add_argument("policy", type=Path, help="a .gguf file or a checkpoint's folder, for its tokenizer")
    given = parser.parse_args(argv)
    prompts, solutions = token_counts(given.rows, given.policy)
    of_others = solutions[np.random.default_rng(0).permutation(len(solutions))]
    lengths = {"SFT": prompts + solutions, "DPO": np.stack([prompts + solutions, prompts + of_others], axis=1)}
    rows = []
    for work, batch_size, devices, tokens in SETTINGS:
        row = {"work": work, "batch_size": batch_size, "devices": devices, "tokens": tokens}
        for name in ("padded", "packed"):
            row[name] = counted(lengths[work], batch_size, devices, tokens, packing=name == "packed")
        print(json.dumps(row), flush=True)
        rows.append(row)
    document = {
        "command": "python -m benchmarks.filler TRAIN.jsonl POLICY",
        "policy": given.policy.stem,
        "mean_length": float(lengths["SFT"].mean()),
        "longest": int(lengths["SFT"].max()),
        "num_rows": len(prompts),
        "versions": {"numpy": metadata.version("numpy"), "transformers": metadata.version("transformers")},
        "rows": rows,
    }
    (sides.RESULTS / "filler.json").write_text(json.dumps(document, indent=1) + "\n")


def token_counts(rows: Path, policy: Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int [N] of each prompt and of each solution."""
    problems = Gsm8k()
    read = [read_row(problems, json.loads(line), str(rows)) for line in rows.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        if policy.suffix == ".gguf":
            write_tokenizer(policy, Path(folder))
        tokenizer = load_tokenizer(Path(folder) if policy.suffix == ".gguf" else policy, SHAPE)
        prompts = np.array([len(tokenizer.encode_prompt(prompt_of(problems, row.problem))) for row in read])
        return prompts, np.array([len(tokenizer.encode_completion(row.solution)) for row in read])


def counted(lengths: np.ndarray, batch_size: int, devices: int, tokens: int, packing: bool) -> dict[str, object]:
    """Filler, shapes and micro-batches an update. lengths: int [N], or [N, 2] of pairs."""
    schedule = Schedule(len(lengths), batch_size, EPOCHS, seed=0)
    updates = [schedule.rows(index) for index in range(schedule.num_updates)]
    arrays = {"tokens": np.zeros((*lengths.shape, -(-lengths.max() // 8) * 8), np.int32)}
    slots, calls, shapes = 0, 0, set()
    mesh = dict(zip(AXES, (1, devices, 1), strict=True))
    with using_memory(Memory(packing=packing, micro_batch_tokens=tokens)), on_mesh(mesh):
        cut = cutter(arrays, updates, lengths, batch_size, SHAPE)
        for rows in updates:
            for _, batch in cut(rows):
                found = batch["packed"]["tokens"] if packing else batch["tokens"]
                slots, calls = slots + found.size, calls + 1
                shapes.add(found.shape)
    filler = 1 - EPOCHS * int(lengths.sum()) / slots
    return {"filler": filler, "shapes": len(shapes), "calls": calls / len(updates)}


if __name__ == "__main__":
    main()
