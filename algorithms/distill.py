"""On-policy distillation: the policy's own completions, each token against the distribution of a stronger policy.

In: the SFT policy, D_syn, and a teacher: a base policy that was pretrained on right solutions. Out: a policy trained on
completions that it samples itself. Nobody has such a teacher when it matters, so this is an oracle: a ceiling for
learners that are told right from wrong only. Its rewards are logged; nothing is learned from them.

Agarwal et al. 2023 (GKD), arXiv 2306.13649, with samples of the student only and the reverse divergence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd

from algorithms.on_policy import (
    Start,
    batches_of,
    entropy,
    learned_from,
    logits_and_logps,
    numbers_of,
    start_of,
    train,
)
from data.groups import draw
from scaling.config.on_policy import Distill
from scaling.model.flops import forward_flops
from scaling.model.policy import Policy, policy_of
from scaling.model.transformer import Params
from scaling.training.logps import logits_of
from scaling.training.on_policy import Batch
from scaling.training.update import Apply, Objective, Sum, Sums


def distillation_loss(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """The reverse divergence KL(pi, pi_T) over all next tokens, a mean over the tokens of an update.

    batch: tokens int32 [B, T]; mask float32 [B, T], 1 where a completion has a token; weight float32 [B], 0 for filler;
    teacher_logits float32 [B, T, V] of the same tokens; temperature float32 [], of both. The completions are the
    policy's own; no gradient goes through how they were drawn (GKD, section 3).
    """
    logits, _ = logits_and_logps(apply, params, batch)
    divergence = reverse_kl(logits, batch["teacher_logits"] / batch["temperature"])
    counted = batch["mask"] * batch["weight"][:, None]
    means = {"loss": divergence, "entropy": entropy(logits)}
    return {name: Sum(jnp.sum(of * counted), jnp.sum(counted)) for name, of in means.items()}


def reverse_kl(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """sum pi (log pi - log pi_T) over the vocabulary, float32 [B, T], at the place of the token that follows."""
    own, teachers = (jax.nn.log_softmax(of[:, :-1], axis=-1) for of in (logits, teacher_logits))
    return jnp.pad(jnp.sum(jnp.exp(own) * (own - teachers), axis=-1), ((0, 0), (1, 0)))


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample and update, again and again.

    config: problems, distill, seed; verifier where it is not exact, lora if adapters are trained. inputs: reference,
    which training starts from, oracle, the teacher, and synthetic.
    """
    start = start_of(config, inputs, "distill", Distill)
    learner = Learner(start, policy_of(inputs, "oracle"))
    objective = Objective(distillation_loss, {"temperature": start.settings.temperature})
    return train(start, partial(draw, start.draws()), learner.batches, learner.numbers, objective, out)


@dataclass(frozen=True)
class Learner:
    """From the samples of an iteration to the batches of its updates."""

    start: Start[Distill]
    teacher: Policy

    def __post_init__(self) -> None:
        own, teachers = self.start.reference.config.vocab_size, self.teacher.config.vocab_size
        if own != teachers:
            raise ValueError(
                f"distill: the teacher has {teachers} tokens and the policy {own}; distributions compare only over one"
                " vocabulary: pretrain the teacher on the same family."
            )

    def batches(self, params: Params, samples: pd.DataFrame) -> list[Batch]:
        """The micro-batches of each update. params: of the policy that sampled; not read."""
        rows = self.start.sequences(learned_from(samples))
        arrays = {"tokens": rows.tokens, "mask": rows.mask}
        return [self.judged(batches) for batches in batches_of(self.start, arrays, rows.lengths)]

    def judged(self, batches: Batch) -> Batch:
        """The micro-batches with the teacher's logits: one at a time, as each is as large as its vocabulary."""
        for batch in batches:
            yield {**batch, "teacher_logits": logits_of(self.teacher, batch["tokens"])}

    def numbers(self, samples: pd.DataFrame) -> dict[str, float]:
        """What the samples of an iteration show and cost, the teacher's reading included."""
        found = numbers_of(self.start, samples, {})
        lengths = self.start.sequences(learned_from(samples)).lengths.tolist()
        return found | {"training_flops": found["training_flops"] + forward_flops(self.teacher.config, lengths)}
