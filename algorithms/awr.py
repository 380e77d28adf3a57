"""Advantage-weighted regression on steps: NLL of every step, right or wrong, times exp(A / beta).

In: rollouts with step values. Out: a policy trained on all their steps. This is the advantage-weighted RL of theorem
6.1 of Setlur et al. 2024 (arXiv 2406.14532), which has the optimum of per-step DPO with soft labels. The method is that
of Peng et al. 2019 (arXiv 1910.00177), with its clip of the weights. Weights are divided by their mean over all tokens,
which moves no optimum: with equal advantages this is SFT on the traces.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from algorithms.sft import fit_chosen
from data.q_values import advantages
from data.rollout_tables import read_verified
from scaling.config.section import parse
from scaling.config.training import Awr
from scaling.model.transformer import Params
from scaling.training.logps import token_logps
from scaling.training.update import Apply, Sum, Sums


def weighted_nll(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """Negative log-likelihood of each token times its weight, a mean over the tokens that have one.

    batch: tokens int32 [B, T]; mask float32 [B, T], the weight of a token, 0 where it is context; weight float32 [B],
    0 for filler.
    """
    weights = batch["mask"] * batch["weight"][:, None]
    logps = token_logps(apply(params, batch["tokens"]), batch["tokens"])
    return {"loss": Sum(-jnp.sum(logps * weights), jnp.sum(weights > 0, dtype=jnp.float32))}


def weigh_steps(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Weigh the steps of all traces. Writes weighted_steps.parquet: problem, prompt, tokens, mask (a weight a token).

    config: problems, weighted_steps (beta, max_weight); inputs: synthetic, rollouts, verification, step_values.
    """
    verified = read_verified(config, inputs)
    settings, rows, of_steps = config["weighted_steps"], [], list[float]()
    for trace in verified.traces(inputs["step_values"]).itertuples(index=False):
        weights = step_weights(advantages(trace.q_values, trace.prompt_value), settings["beta"], settings["max_weight"])
        of_steps.extend(weights)
        mask = np.repeat(weights, np.diff([0, *trace.step_ends]))
        rows.append((int(trace.problem), verified.prompt(trace.problem), trace.tokens, mask))
    mean = np.concatenate([mask for *_, mask in rows]).mean()
    frame = pd.DataFrame(rows, columns=["problem", "prompt", "tokens", "mask"])
    frame["mask"] = [(mask / mean).tolist() for mask in frame["mask"]]
    frame.to_parquet(out / "weighted_steps.parquet")
    steps = np.array(of_steps)
    return {
        "num_traces": float(len(frame)),
        "num_learned_steps": float(len(steps)),
        "effective_steps_fraction": float(steps.sum() ** 2 / (steps**2).sum() / len(steps)),
        "clipped_steps_fraction": float(np.mean(steps >= settings["max_weight"])),
    }


def step_weights(gains: list[float], beta: float, max_weight: float) -> np.ndarray:
    """exp(A / beta) of each step, at most max_weight."""
    return np.exp(np.minimum(np.array(gains) / beta, np.log(max_weight)))


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Weighted NLL on the steps, and on D_syn, at a weight of 1, where `include_synthetic` says so.

    config: problems, awr, seed, and lora if adapters are trained; inputs: start, synthetic, weighted_steps.
    """
    steps = pd.read_parquet(inputs["weighted_steps"] / "weighted_steps.parquet")
    nothing = "awr: there are no traces to learn from; raise awr.traces_per_problem."
    return fit_chosen(steps, parse(Awr, config["awr"]), config, inputs, out, nothing, weighted_nll, packs=True)
