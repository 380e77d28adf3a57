"""The peer's side: transformers `generate` on the same rows; same arguments as ours.py, and the number of threads.

`python -m benchmarks.peer WORK SIZE SHARE SHARES FOLDER REPEATS QUICK THREADS` prints JSON. Batches of 256 rows sorted
by length, padding on the left, a cache, natural stops; several completions of a prompt by num_return_sequences.
"""

import json
import os
import sys
import time
from pathlib import Path

threads = int(sys.argv[8])
share, shares = int(sys.argv[3]), int(sys.argv[4])
if threads == 1:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[share % len(cores)]})
os.environ["OMP_NUM_THREADS"] = str(threads)

import torch
from transformers import AutoModelForCausalLM

from benchmarks import workloads

BATCH = 256


def main() -> None:
    work, size, folder, repeats = sys.argv[1], sys.argv[2], Path(sys.argv[5]), int(sys.argv[6])
    torch.set_num_threads(threads)
    torch.manual_seed(share)
    model = AutoModelForCausalLM.from_pretrained(folder / size, dtype=torch.float32).eval()
    rows, limits, copies = workloads.work_rows(work, size, sys.argv[7])
    rows, limits = rows[share::shares], limits[share::shares]
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index]), limits[index]))
    seconds, tokens = [], 0
    for _ in range(repeats + 1):
        start, tokens = time.perf_counter(), 0
        per_batch = BATCH // copies
        for first in range(0, len(order), per_batch):
            members = order[first : first + per_batch]
            width = max(len(rows[index]) for index in members)
            batch = torch.full((len(members), width), workloads.PAD)
            for line, index in enumerate(members):
                batch[line, width - len(rows[index]) :] = torch.tensor(rows[index])
            with torch.inference_mode():
                out = model.generate(
                    batch,
                    attention_mask=(
                        torch.arange(width)[None] >= width - torch.tensor([[len(rows[i])] for i in members])
                    ),
                    max_new_tokens=max(limits[index] for index in members),
                    do_sample=work != "greedy",
                    num_return_sequences=copies,
                    top_k=0,
                    eos_token_id=workloads.EOS,
                    pad_token_id=workloads.PAD,
                )
            new = out[:, width:]
            tokens += int((new != workloads.PAD).sum())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"rows": len(rows) * copies, "tokens": tokens, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
