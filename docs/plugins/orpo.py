"""ORPO: preference optimisation without a reference policy (Hong et al. 2024, arXiv 2403.07691), as a plug-in.

python -m scaling.sweep sweeps/quickstart.yaml --import docs/plugins/orpo.py --set "grid.algorithm=[sft, dpo, orpo]"
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from scaling.config.algorithms import Algorithm, register_algorithm
from scaling.config.section import Count, Positive, parse, plain
from scaling.config.sweep import Cell
from scaling.config.training import Optimizer, Pairing
from scaling.kinds import Kind, register_kind
from scaling.planning.recipes import pairs, preference_stage
from scaling.stage import Stage


class Orpo(Pairing, Optimizer):
    """The section `orpo` of a sweep file."""

    learning_rate: Positive = 1e-4
    epochs: Count = 2
    batch_size: Count = 32
    odds_weight: Positive = 0.1  # lambda of eq. 6


def recipe(cell: Cell, seed: int) -> Stage:
    """ORPO from the SFT policy, on the pairs that DPO has with the same settings."""
    settings = cell.section(Orpo)
    training = plain(settings, exclude=set(Pairing.model_fields))  # the stage `pairs` reads the others
    return preference_stage("orpo", cell, seed, training, "start", pairs(cell, seed, settings))


def orpo_loss(apply: Callable, params: Mapping, batch: Mapping) -> Mapping:
    """Mean over pairs of the chosen completion's NLL per token, and the odds ratio's loss (eqs. 6 and 7).

    batch: tokens int32 [B, 2, T] and mask float32 [B, 2, T], (chosen, rejected) on the second axis; weight float32 [B],
    0 for filler; odds_weight float32 [].
    """
    import jax
    import jax.numpy as jnp

    from scaling.training.logps import completion_logps
    from scaling.training.update import Sum

    size, _, length = batch["tokens"].shape
    tokens, mask = batch["tokens"].reshape(-1, length), batch["mask"].reshape(-1, length)
    summed = completion_logps(apply(params, tokens), tokens, mask)
    logps = (summed / jnp.maximum(mask.sum(axis=-1), 1.0)).reshape(size, 2)  # per token, as the paper has it
    log_odds = logps - jnp.log1p(-jnp.exp(jnp.minimum(logps, -1e-6)))  # log p / (1 - p); no infinity at p = 1
    ratio = log_odds[:, 0] - log_odds[:, 1]
    losses = -logps[:, 0] - batch["odds_weight"] * jax.nn.log_sigmoid(ratio)
    weight, count = batch["weight"], batch["weight"].sum()
    return {"loss": Sum((losses * weight).sum(), count), "odds/log_ratio": Sum((ratio * weight).sum(), count)}


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Train on pairs. config: orpo, seed, lora where adapters are trained; inputs: start, pairs."""
    import pandas as pd

    from algorithms.dpo import fit_pairs, pair_sequences
    from scaling.config.policy import lora_of
    from scaling.model.policy import passed_on, policy_of
    from scaling.training.update import Objective

    settings, start = parse(Orpo, config["orpo"]), policy_of(inputs, "start")
    table = pd.read_parquet(inputs["pairs"] / "pairs.parquet")
    if table.empty:
        return {**passed_on(start, out), "num_pairs": 0.0}
    objective = Objective(orpo_loss, {"odds_weight": settings.odds_weight}, packs=True)
    rows = pair_sequences(table)
    kept = config.get("snapshots", 0)  # for checkpoint.keep: best
    lora, seed = lora_of(config), config["seed"]
    return fit_pairs(start, rows, {}, objective, settings, seed, out, lora, kept)


WORK, MEMORY = "scaling.pricing.work:training_on_pairs", "scaling.pricing.programs:training_on_pairs"
register_kind(Kind("orpo", 1, "train", run, work=WORK, memory=MEMORY))
register_algorithm(Algorithm("orpo", Orpo, recipe, "ORPO"))
