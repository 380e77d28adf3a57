"""Policy gradient on step advantages, by Monte Carlo: VinePPO, and PAV's mixture with the outcome's reward.

In: the SFT policy and D_syn. Out: a policy trained on completions that it samples itself. After every step but the
last, a completion is continued M times by the policy of the moment, so that each step has an advantage of its own: what
it adds to the chance that the prover ends right. The prover is best-of-K of that policy.

VinePPO: Kazemnejad et al. 2024, arXiv 2410.01679, section 4: outcome_weight 0 and best_of 1. PAV: Setlur et al. 2024,
arXiv 2410.08146, equation 5: outcome_weight 1, step_weight alpha, best_of K. With best_of 1 the mixture is, on average,
1 + alpha times the gradient of either part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    start_of,
    train,
)
from data.groups import draw, with_continuations
from data.q_values import advantages, best_of_k
from data.tokens.steps import step_cutter
from scaling.config.on_policy import StepPg
from scaling.model.transformer import Params
from scaling.training.batching import masked_sequences
from scaling.training.on_policy import Batch
from scaling.training.update import Apply, Objective, Sum, Sums


def step_gains(samples: pd.DataFrame, settings: StepPg) -> list[np.ndarray]:
    """What each step of each sample is reinforced by: w (r - mean r) + alpha A, with A = Q - Q of the step before.

    samples: whole groups in order, with reward and num_correct. Q is best-of-K of the M continuations after the step,
    the reward after the last, and of the bare problem best-of-K of its group. A prover with K above 1 does better than
    the policy, so the policy's steps have advantages below 0 on average: less the mean of the group's steps at the same
    place, a baseline. Without it every step that is sampled becomes less likely, and the policy falls apart.
    """
    size, gains = settings.samples_per_problem, list[np.ndarray]()
    for first in range(0, len(samples), size):
        group = samples.iloc[first : first + size]
        rewards = group["reward"].to_numpy()
        prompt_value = best_of_k(int(rewards.sum()), size, settings.best_of)
        steps = [
            _step_advantages(counts, reward, prompt_value, settings)
            for counts, reward in zip(group["num_correct"], rewards, strict=True)
        ]
        if settings.best_of > 1:
            means = pd.DataFrame([dict(enumerate(own)) for own in steps]).mean().to_numpy()
            steps = [own - means[: len(own)] for own in steps]
        outcomes = settings.outcome_weight * (rewards - rewards.mean())
        gains += [outcome + settings.step_weight * own for outcome, own in zip(outcomes, steps, strict=True)]
    return gains


def _step_advantages(counts: Iterable[int], reward: float, prompt_value: float, settings: StepPg) -> np.ndarray:
    """Of the steps of one completion. counts: of its continuations that were right, after each step but the last."""
    values = [best_of_k(int(right), settings.rollouts_per_prefix, settings.best_of) for right in counts]
    return np.array(advantages([*values, reward], prompt_value))


def step_loss(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """Minus the clipped surrogate, a mean over the tokens of an update.

    batch: tokens int32 [B, T]; mask float32 [B, T], 1 where a completion has a token; weight float32 [B], 0 for filler;
    token_gains float32 [B, T], of the step that the token belongs to; epsilon, kl_weight and temperature float32 [].
    old_token_logps float32 [B, T] under the policy that sampled, without which that is the policy itself;
    ref_token_logps float32 [B, T] where there is a reference policy.
    """
    logits, logps = logits_and_logps(apply, params, batch)
    ratios = jnp.exp(logps - batch.get("old_token_logps", jax.lax.stop_gradient(logps)))
    objective, clipped = clipped_gain(ratios, batch["token_gains"], 1.0 - batch["epsilon"], 1.0 + batch["epsilon"])
    counted = batch["mask"] * batch["weight"][:, None]
    means = {"entropy": entropy(logits), "clip_fraction": clipped}
    if "ref_token_logps" in batch:
        means["kl"] = k3(batch["ref_token_logps"] - logps)
        objective = objective - batch["kl_weight"] * means["kl"]
    return {name: Sum(jnp.sum(of * counted), jnp.sum(counted)) for name, of in {"loss": -objective, **means}.items()}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample, continue, judge and update, again and again.

    config: problems, step_pg, seed; verifier where it is not exact, lora if adapters are trained. inputs: reference,
    which training starts from, synthetic, and tokenizer if imported.
    """
    start = start_of(config, inputs, "step_pg", StepPg)
    learner, settings, draws = Learner(start), start.settings, start.draws()
    cutter = step_cutter(start.source.settings, start.source.tokenizer)

    def sample(params: Params, iteration: int) -> pd.DataFrame:
        drawn = draw(draws, params, iteration)
        return with_continuations(draws, params, iteration, drawn, cutter, settings.rollouts_per_prefix)

    constants = {name: getattr(settings, name) for name in ("epsilon", "kl_weight", "temperature")}
    return train(start, sample, learner.batches, learner.numbers, Objective(step_loss, constants), out)


@dataclass(frozen=True)
class Learner:
    """From the samples of an iteration to the batches of its updates."""

    start: Start[StepPg]

    @property
    def needs_reference(self) -> bool:
        return self.start.settings.kl_weight > 0

    @property
    def needs_old(self) -> bool:
        """Whether the policy that sampled has to read its samples: after the first update it is another one."""
        return self.start.settings.updates_per_iteration > 1

    def batches(self, params: Params, samples: pd.DataFrame) -> list[Batch]:
        """The micro-batches of each update. params: of the policy that sampled."""
        start, learned = self.start, learned_from(samples)
        rows = start.sequences(learned)
        arrays = {"tokens": rows.tokens, "mask": rows.mask, "token_gains": self.token_gains(learned)}
        if self.needs_old:
            arrays["old_token_logps"] = start.logps(params, rows)
        if self.needs_reference:
            arrays["ref_token_logps"] = start.logps(start.reference.params, rows)
        return batches_of(start, arrays, rows.lengths)

    def token_gains(self, learned: pd.DataFrame) -> np.ndarray:
        """float32 [N, T]: of each token the gain of its step."""
        gains = [
            np.repeat(steps, np.diff([0, *ends])).tolist()
            for steps, ends in zip(step_gains(learned, self.start.settings), learned["step_ends"], strict=True)
        ]
        completions = [tokens.tolist() for tokens in learned["tokens"]]
        return masked_sequences(self.start.prompts(learned), completions, gains).mask

    def numbers(self, samples: pd.DataFrame) -> dict[str, float]:
        """What the samples of an iteration show and cost, their continuations included."""
        size = self.start.settings.samples_per_problem
        strongest = [np.abs(steps).max() for steps in step_gains(samples, self.start.settings)]
        without = np.max(np.reshape(strongest, (-1, size)), axis=1) == 0
        more = {
            "groups/without_gradient_fraction": float(without.mean()),
            "steps/strongest_gain": float(np.mean(strongest)),
        }
        found = numbers_of(self.start, samples, more, self.needs_old + self.needs_reference)
        num_prefixes = int(samples["num_correct"].map(len).sum())
        return found | {
            "num_continuations": float(num_prefixes * self.start.settings.rollouts_per_prefix),
            "num_generated_tokens": found["num_generated_tokens"] + float(samples["continuation_tokens"].sum()),
            "generation_flops": found["generation_flops"] + float(samples["continuation_flops"].sum()),
        }
