"""The peer's side of training: TRL's SFTTrainer and DPOTrainer on the same sequences, weights and batches.

`python -m benchmarks.peer_training WORK SIZE SHARE FOLDER REPEATS QUICK THREADS MODE` prints JSON. MODE is how batches
are filled: `padded`, `grouped` (rows of like length together), `packed` and `padding_free` (both SFT only). The clock
runs over the reference log-probabilities (precomputed), training and saving; the data set is prepared outside of it.
"""

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

work, size, share, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[7])
if threads == 1:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[share % len(cores)]})
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks import examples, workloads

PACKED_TOKENS = 256  # of a packed row; the longest sequence has 64


def main() -> None:
    folder, repeats, quick, mode = Path(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "quick", sys.argv[8]
    torch.set_num_threads(threads)
    datasets.disable_caching()  # a second run would find the reference log-probabilities of the first
    logging.disable(logging.WARNING)
    pairs = examples.pairs(examples.num_rows(size, quick))
    seconds, loss = [], 0.0
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as out:
            model = AutoModelForCausalLM.from_pretrained(folder / size, dtype=torch.float32)
            spent, loss = {"sft": _sft, "dpo": _dpo}[work](model, pairs, Path(out), mode)
        seconds.append(spent)
    print(json.dumps({"rows": len(pairs) * examples.EPOCHS, "seconds": seconds[1:], "loss": loss}))


def _sft(model: torch.nn.Module, pairs: list[examples.Pair], out: Path, mode: str) -> tuple[float, float]:
    rows = [pair.prompt + pair.chosen for pair in pairs]
    masks = [[0] * len(pair.prompt) + [1] * len(pair.chosen) for pair in pairs]
    settings, batch = _settings(mode), examples.BATCH_SIZE["sft"]
    if mode == "packed":  # as many tokens an update as the other modes have
        tokens = sum(map(len, rows)) / len(rows) * batch
        batch = max(1, round(tokens / PACKED_TOKENS))
        settings |= {"packing": True, "max_length": PACKED_TOKENS}
    else:
        settings |= {"padding_free": mode == "padding_free", "max_length": None}
    trainer = SFTTrainer(
        model,
        SFTConfig(out, per_device_train_batch_size=batch, completion_only_loss=True, **settings),
        train_dataset=datasets.Dataset.from_dict(
            {"input_ids": rows, "completion_mask": masks, "length": list(map(len, rows))}
        ),
        processing_class=_tokenizer(),
    )
    return _timed(trainer, out)


def _dpo(model: torch.nn.Module, pairs: list[examples.Pair], out: Path, mode: str) -> tuple[float, float]:
    columns = {
        name: [" ".join(map(_word, getattr(pair, name))) for pair in pairs] for name in ("prompt", "chosen", "rejected")
    }
    columns["prompt"] = [f"{text} " for text in columns["prompt"]]  # words stay apart where they are joined
    columns["length"] = [len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    settings = _settings(mode) | {"beta": examples.BETA, "max_length": None}
    _Clocked.spent = 0.0
    trainer = _Clocked(
        model,
        args=DPOConfig(
            out,
            per_device_train_batch_size=examples.BATCH_SIZE["dpo"],
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=64,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=_tokenizer(),
    )
    reference = _Clocked.spent
    lengths = [len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in trainer.train_dataset]
    if lengths != [len(pair.prompt) + len(pair.chosen) for pair in pairs]:
        raise RuntimeError("the peer does not train on the same tokens")
    spent, loss = _timed(trainer, out)
    return reference + spent, loss


class _Clocked(DPOTrainer):
    """Takes the time of the reference log-probabilities, which are computed as the trainer is made.

    It also keeps the column of lengths, without which DPOTrainer cannot group rows by length.
    """

    spent = 0.0

    def _precompute_ref_logps(self, *arguments):
        start = time.perf_counter()
        found = super()._precompute_ref_logps(*arguments)
        _Clocked.spent += time.perf_counter() - start
        return found

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        if "length" not in self._signature_columns:
            self._signature_columns.append("length")


def _timed(trainer: SFTTrainer | DPOTrainer, out: Path) -> tuple[float, float]:
    start = time.perf_counter()
    result = trainer.train()
    trainer.model.save_pretrained(out / "policy")
    return time.perf_counter() - start, result.training_loss


def _settings(mode: str) -> dict[str, object]:
    return {
        "num_train_epochs": examples.EPOCHS,
        "learning_rate": examples.LEARNING_RATE[work],
        "train_sampling_strategy": "group_by_length" if mode == "grouped" else "random",
        "optim": "adamw_torch_fused",
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": share,
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    """One word for each token id."""
    vocabulary = {_word(token): token for token in range(workloads.VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_word(workloads.PAD)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    eos, pad = _word(workloads.EOS), _word(workloads.PAD)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, pad_token=pad)


def _word(token: int) -> str:
    """Special tokens are looked for inside of words too, so they are no numbers."""
    return {workloads.PAD: "<pad>", workloads.EOS: "<eos>"}.get(token, str(token))


if __name__ == "__main__":
    main()
