"""Policy gradient on groups of completions: GRPO, Dr. GRPO, DAPO, RLOO, CISPO and negatives only, by settings.

In: the SFT policy and D_syn. Out: a policy trained on completions that it samples itself, iteration by iteration. A
completion's advantage is its reward against those of its group, the other completions of its problem. The losses differ
in what advantages are divided by, in how ratios pi / pi_old are clipped, and in what tokens are averaged over:
docs/learners.md has them side by side.

GRPO: Shao et al. 2024, arXiv 2402.03300, equation 3. Dr. GRPO: Liu et al. 2025, arXiv 2503.20783. DAPO: Yu et al. 2025,
arXiv 2503.14476. RLOO: Ahmadian et al. 2024, arXiv 2402.14740. CISPO: Khatri et al. 2025, arXiv 2510.13786, equation 4.
Negatives only: Zhu et al. 2025, arXiv 2506.01347.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from algorithms.on_policy import (
    Start,
    batches_of,
    clipped_gain,
    entropy,
    k3,
    learned_from,
    logits_and_logps,
    numbers_of,
    rewards_of,
    start_of,
    train,
)
from data.groups import draw, have_gradient
from scaling.config.on_policy import GroupPg
from scaling.model.transformer import Params
from scaling.training.on_policy import Batch
from scaling.training.update import Apply, Loss, Objective, Sum, Sums

# What advantages are divided by, and where ratios are clipped from above, in each loss's paper.
SCALES = {"grpo": "group", "dapo": "group", "cispo": "batch", "dr_grpo": "none", "rloo": "none"}
EPSILON_HIGH = {"dapo": 0.28, "cispo": 5.0}  # of the others epsilon
_TINY = 1e-4  # keeps the division finite, as in TRL


def advantages(rewards: np.ndarray, loss: str, scale_rewards: str = "published") -> np.ndarray:
    """Rewards against those of their group, float [N, G], for the groups of one update.

    The group's mean is subtracted, or by rloo the mean of the others, which gives G / (G - 1) times as much. What is
    left is divided by the standard deviation of rewards in the group or in the batch, or by nothing.
    """
    found = rewards - rewards.mean(axis=1, keepdims=True)
    if loss == "rloo":
        found = found * (rewards.shape[1] / (rewards.shape[1] - 1))
    scale = SCALES[loss] if scale_rewards == "published" else scale_rewards
    if scale == "group":
        found = found / (rewards.std(axis=1, ddof=1, keepdims=True) + _TINY)
    elif scale == "batch":
        found = found / (rewards.std(ddof=1) + _TINY)
    centred: np.ndarray = found
    return centred


def token_weights(loss: str, lengths: np.ndarray, longest: int) -> np.ndarray:
    """What a token of each completion weighs, float [N, G], where the loss is a mean over completions (dapo: tokens).

    lengths: tokens of each completion, int [N, G]; longest: the most that one may have.
    """
    weights: np.ndarray = np.ones(lengths.shape)
    if loss == "grpo":
        weights = weights / lengths
    elif loss == "dr_grpo":
        weights = weights / longest
    elif loss == "cispo":  # 1 / T for the group of T tokens, in a mean over groups
        weights = weights * lengths.shape[1] / lengths.sum(axis=1, keepdims=True)
    return weights


@cache
def loss_of(loss: str) -> Loss:
    """The loss of this name: always the same function, so that stages share a compiled update."""
    return partial(policy_loss, loss=loss)


def policy_loss(apply: Apply, params: Params, batch: Mapping[str, jax.Array], loss: str = "grpo") -> Sums:
    """Minus the objective of the papers, a mean over completions, or of dapo over tokens.

    batch: tokens int32 [B, T]; mask float32 [B, T], 1 where a completion has a token; weight float32 [B], 0 for filler;
    advantage and token_weight float32 [B]; epsilon, epsilon_high, kl_weight and temperature float32 [].
    old_token_logps float32 [B, T] under the policy that sampled, without which that is the policy itself;
    ref_token_logps float32 [B, T] where there is a reference policy. All log-probabilities are at the temperature.
    """
    mask, weight = batch["mask"], batch["weight"]
    logits, logps = logits_and_logps(apply, params, batch)
    log_ratios = logps - batch.get("old_token_logps", jax.lax.stop_gradient(logps))
    if loss == "rloo":  # the ratio is the whole completion's
        log_ratios = jnp.sum(log_ratios, axis=-1, keepdims=True)
    ratios, gains = jnp.exp(log_ratios), batch["advantage"][:, None]
    low, high = 1.0 - batch["epsilon"], 1.0 + batch["epsilon_high"]
    if loss == "cispo":
        high = batch["epsilon_high"]
        objective = jax.lax.stop_gradient(jnp.minimum(ratios, high)) * gains * logps
        clipped = (ratios > high) & (gains > 0)
    else:
        objective, clipped = clipped_gain(ratios, gains, low, high)
    counted = mask * weight[:, None]
    num_tokens, num_rows = jnp.sum(counted), jnp.sum(weight)
    sums = {"entropy": Sum(jnp.sum(entropy(logits) * counted), num_tokens)}
    if "ref_token_logps" in batch:
        divergence = k3(batch["ref_token_logps"] - logps)
        sums["kl"] = Sum(jnp.sum(divergence * counted), num_tokens)
        if loss != "rloo":  # there it is part of the reward
            objective = objective - batch["kl_weight"] * divergence
    if loss == "rloo":
        sums["clip_fraction"] = Sum(jnp.sum(clipped[:, 0] * weight), num_rows)
        return {"loss": Sum(-jnp.sum(objective[:, 0] * weight), num_rows), **sums}
    sums["clip_fraction"] = Sum(jnp.sum(clipped * counted), num_tokens)
    total = -jnp.sum(objective * counted * batch["token_weight"][:, None])
    return {"loss": Sum(total, num_tokens if loss == "dapo" else num_rows), **sums}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample, judge and update, again and again.

    config: problems, group_pg, seed; verifier where it is not exact, lora if adapters are trained. inputs: reference,
    which training starts from, synthetic, and tokenizer if imported.
    """
    start = start_of(config, inputs, "group_pg", GroupPg)
    learner, settings = Learner(start), start.settings
    sample = partial(draw, start.draws(settings.dynamic_sampling))
    objective = Objective(loss_of(settings.loss), learner.constants)
    return train(start, sample, learner.batches, learner.numbers, objective, out)


@dataclass(frozen=True)
class Learner:
    """From the samples of an iteration to the batches of its updates."""

    start: Start[GroupPg]

    @property
    def constants(self) -> dict[str, float]:
        """Scalars that the loss reads."""
        settings = self.start.settings
        named = {name: getattr(settings, name) for name in ("epsilon", "kl_weight", "temperature")}
        published = EPSILON_HIGH.get(settings.loss, settings.epsilon)
        return {**named, "epsilon_high": settings.epsilon_high or published}

    @property
    def needs_reference(self) -> bool:
        return self.start.settings.kl_weight > 0

    @property
    def needs_old(self) -> bool:
        """Whether the policy that sampled has to read its samples: after the first update it is another one."""
        settings = self.start.settings
        return settings.updates_per_iteration > 1 or (self.needs_reference and settings.loss == "rloo")

    def batches(self, params: Params, samples: pd.DataFrame) -> list[Batch]:
        """The micro-batches of each update. params: of the policy that sampled."""
        start, settings, learned = self.start, self.start.settings, learned_from(samples)
        rows, rewards = start.sequences(learned), rewards_of(start, learned)
        arrays = {"tokens": rows.tokens, "mask": rows.mask}
        if self.needs_old:
            arrays["old_token_logps"] = start.logps(params, rows)
        if self.needs_reference:
            arrays["ref_token_logps"] = start.logps(start.reference.params, rows)
            if settings.loss == "rloo":
                estimates = (arrays["old_token_logps"] - arrays["ref_token_logps"]).sum(axis=1, dtype=np.float64)
                rewards = rewards - settings.kl_weight * estimates.reshape(rewards.shape)
        lengths = rows.mask.sum(axis=1).reshape(rewards.shape)
        weights = token_weights(settings.loss, lengths, start.source.limit)
        arrays["token_weight"] = weights.astype(np.float32).ravel()
        updates = np.split(rewards, settings.updates_per_iteration)
        gains = np.concatenate([advantages(part, settings.loss, settings.scale_rewards) for part in updates])
        gains = np.where(gains > 0, settings.positive_weight * gains, gains)
        arrays["advantage"] = gains.astype(np.float32).ravel()
        return batches_of(start, arrays, rows.lengths)

    def numbers(self, samples: pd.DataFrame) -> dict[str, float]:
        """What the samples of an iteration show and cost."""
        without = float((~have_gradient(rewards_of(self.start, samples))).mean())
        passes = self.needs_old + self.needs_reference
        return numbers_of(self.start, samples, {"groups/without_gradient_fraction": without}, passes)
