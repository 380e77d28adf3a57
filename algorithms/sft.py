"""Supervised fine-tuning: negative log-likelihood of solutions, on completion tokens only.

In: the teacher's problems and solutions (D_syn) and the base policy. Out: the SFT policy, which every other
algorithm starts from or is compared with (Setlur et al. 2024, arXiv 2406.14532, section 3).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from data.records import read_jsonl
from data.tokens.tokenizer import tokenizer_of
from scaling.config.policy import Lora, lora_of
from scaling.config.problems import problems_of
from scaling.config.section import parse
from scaling.config.training import Awr, Optimizer, Rft, Sft, StepRft
from scaling.model.flops import training_flops
from scaling.model.policy import Policy, passed_on, policy_of, save_trained
from scaling.model.transformer import Params
from scaling.training.batching import Sequences, masked_sequences, sequences
from scaling.training.logps import token_logps
from scaling.training.loop import train
from scaling.training.update import Apply, Loss, Objective, Sum, Sums


def nll(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """Negative log-likelihood per completion token.

    batch: tokens int32 [B, T]; mask float32 [B, T], 1 where the token counts; weight float32 [B], 0 for filler.
    """
    weights = batch["mask"] * batch["weight"][:, None]
    logps = token_logps(apply(params, batch["tokens"]), batch["tokens"])
    return {"loss": Sum(-jnp.sum(logps * weights), jnp.sum(weights))}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Fine-tune the base policy on D_syn.

    config: problems, sft, seed, and lora if adapters are trained. inputs: base, synthetic.
    """
    rows, settings = sequences(*synthetic_pairs(config, inputs)), parse(Sft, config["sft"])
    kept = config.get("snapshots", 0)
    start, lora = policy_of(inputs, "base"), lora_of(config)
    return fit(start, rows, settings, config["seed"], out, lora, num_snapshots=kept, packs=True)


def synthetic_pairs(config: Mapping[str, Any], inputs: Mapping[str, Path]) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and completions of D_syn as token lists. config: problems. inputs: synthetic."""
    tokenizer = tokenizer_of(problems_of(config), inputs)
    rows = read_jsonl(inputs["synthetic"] / "synthetic.jsonl", keys=("prompt", "completion"))
    prompts = [tokenizer.encode_prompt(row["prompt"]) for row in rows]
    return prompts, [tokenizer.encode_completion(row["completion"]) for row in rows]


def fit_chosen(
    chosen: pd.DataFrame,
    settings: Rft | StepRft | Awr,
    config: Mapping[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    nothing: str,
    loss: Loss = nll,
    packs: bool = False,
) -> dict[str, float]:
    """Train on chosen completions, and on D_syn where `include_synthetic` says so.

    chosen: prompt, tokens and mask (1 where learned, or what the loss makes of it) a row. config: problems, seed, and
    lora if adapters are trained; inputs: start, synthetic. With nothing to learn, a round after the first passes on the
    policy that it sampled from, where training starts from that one; otherwise it is an error, with the message
    `nothing`. packs: see `Objective`.
    """
    prompts, completions, masks = ([list(row) for row in chosen[name]] for name in ("prompt", "tokens", "mask"))
    if settings.include_synthetic:
        more_prompts, more_completions = synthetic_pairs(config, inputs)
        prompts, completions = prompts + more_prompts, completions + more_completions
        masks += [[1.0] * len(completion) for completion in more_completions]
    start = policy_of(inputs, "start")
    if prompts:
        rows = masked_sequences(prompts, completions, masks)
        kept = config.get("snapshots", 0)
        return fit(start, rows, settings, config["seed"], out, lora_of(config), loss, kept, packs)
    if "round" in config and settings.start == "sft":
        return {**passed_on(start, out), "num_sequences": 0.0}
    raise ValueError(nothing)


def fit(
    start: Policy,
    rows: Sequences,
    settings: Optimizer,
    seed: int,
    out: Path,
    lora: Lora | None = None,
    loss: Loss = nll,
    num_snapshots: int = 0,
    packs: bool = False,
) -> dict[str, float]:
    """Minimise the NLL of the rows, or another loss, from a start policy, save it, and return a record's numbers.

    packs: see `Objective`.
    """
    arrays, objective = {"tokens": rows.tokens, "mask": rows.mask}, Objective(loss, packs=packs)
    trained, metrics = train(start, arrays, rows.lengths, objective, settings, seed, out, lora, num_snapshots)
    save_trained(start, trained, lora, out)
    return {
        **metrics,
        "num_sequences": float(len(rows.lengths)),
        "num_tokens": float(rows.lengths.sum()),
        "num_learned_tokens": float(np.count_nonzero(rows.mask)),
        "training_flops": settings.epochs * training_flops(start.config, rows.lengths.tolist(), lora),
    }
