"""Policy gradient on groups of completions: GRPO, Dr. GRPO, DAPO, RLOO, CISPO and negatives only, by settings.

In: the SFT policy and D_syn. Out: a policy trained on completions that it samples itself, iteration by iteration. A
completion's advantage is its reward against those of its group, the other completions of its problem. The losses differ
in what advantages are divided by, in how ratios pi / pi_old are clipped, and in what tokens are averaged over:
docs/learners.md has them side by side.

GRPO: Shao et al. 2024, arXiv 2402.03300, equation 3. Dr. GRPO: Liu et al. 2025, arXiv 2503.20783. DAPO: Yu et al. 2025,
arXiv 2503.14476. RLOO: Ahmadian et al. 2024, arXiv 2402.14740. CISPO: Khatri et al. 2025, arXiv 2510.13786, equation 4.
Negatives only: Zhu et al. 2025, arXiv 2506.01347.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from data.continuations import Source
from data.groups import Draws, draw, have_gradient
from data.records import read_problems
from data.rewards import verifier_of
from data.sampling.completions import truncated_fraction
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.on_policy import GroupPg
from scaling.config.policy import Lora, lora_of
from scaling.config.problems import problems_of
from scaling.config.section import parse
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.policy import Policy, policy_of, save_trained
from scaling.model.sampling import stop_tokens
from scaling.model.transformer import Params
from scaling.training.batching import Sequences, micro_batches, sequences
from scaling.training.logps import logps_of_tokens, token_logps
from scaling.training.loop import NUM_LOGGED, fresh_params
from scaling.training.on_policy import Batch, Iterations, run_iterations
from scaling.training.update import Apply, Loss, Objective, Sum, Sums, learning_rate_at

# What advantages are divided by, and where ratios are clipped from above, in each loss's paper.
SCALES = {"grpo": "group", "dapo": "group", "cispo": "batch", "dr_grpo": "none", "rloo": "none"}
EPSILON_HIGH = {"dapo": 0.28, "cispo": 5.0}  # of the others epsilon
# What the metrics of an iteration count, and the record sums.
COUNTS = ("num_rollouts", "num_generated_tokens", "generation_flops", "num_tokens", "training_flops")
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
    tokens, mask, weight = batch["tokens"], batch["mask"], batch["weight"]
    logits = apply(params, tokens).astype(jnp.float32) / batch["temperature"]
    logps = token_logps(logits, tokens) * mask
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
        objective = jnp.minimum(ratios * gains, jnp.clip(ratios, low, high) * gains)
        clipped = ((ratios > high) & (gains > 0)) | ((ratios < low) & (gains < 0))
    counted = mask * weight[:, None]
    num_tokens, num_rows = jnp.sum(counted), jnp.sum(weight)
    sums = {"entropy": Sum(jnp.sum(_entropy(logits) * counted), num_tokens)}
    if "ref_token_logps" in batch:
        divergence = _k3(batch["ref_token_logps"] - logps)
        sums["kl"] = Sum(jnp.sum(divergence * counted), num_tokens)
        if loss != "rloo":  # there it is part of the reward
            objective = objective - batch["kl_weight"] * divergence
    if loss == "rloo":
        sums["clip_fraction"] = Sum(jnp.sum(clipped[:, 0] * weight), num_rows)
        return {"loss": Sum(-jnp.sum(objective[:, 0] * weight), num_rows), **sums}
    sums["clip_fraction"] = Sum(jnp.sum(clipped * counted), num_tokens)
    total = -jnp.sum(objective * counted * batch["token_weight"][:, None])
    return {"loss": Sum(total, num_tokens if loss == "dapo" else num_rows), **sums}


def _k3(log_ratio: jax.Array) -> jax.Array:
    """An unbiased estimate of KL(pi, pi_ref), never negative. log_ratio: log pi_ref / pi of tokens drawn from pi."""
    return jnp.exp(log_ratio) - log_ratio - 1.0


def _entropy(logits: jax.Array) -> jax.Array:
    """Of the token that follows, float32 [B, T], at the place of that token. No gradient."""
    log_probs = jax.nn.log_softmax(jax.lax.stop_gradient(logits[:, :-1]), axis=-1)
    return jnp.pad(-jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), ((0, 0), (1, 0)))


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample, judge and update, again and again.

    config: problems, group_pg, seed; verifier where it is not exact, lora if adapters are trained. inputs: reference,
    which training starts from, synthetic, and tokenizer if imported.
    """
    settings, lora, seed = parse(GroupPg, config["group_pg"]), lora_of(config), config["seed"]
    problems, reference = problems_of(config), policy_of(inputs, "reference")
    tokenizer = tokenizer_of(problems, inputs)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    limit = completion_limit(problems, tokenizer, settings.max_new_tokens)
    source = Source(problems, tokenizer, synthetic, seed, limit, verifier_of(config))
    num_groups = settings.problems_per_update * settings.updates_per_iteration
    draws = Draws(
        source,
        reference.config,
        num_groups,
        settings.samples_per_problem,
        settings.dynamic_sampling,
        settings.temperature,
    )
    learner = Learner(settings, draws, reference, lora)
    num_updates = settings.iterations * settings.updates_per_iteration
    iterations = Iterations(
        settings.iterations,
        settings.updates_per_iteration,
        partial(draw, draws),
        learner.batches,
        learner.numbers,
        lambda update: learning_rate_at(
            settings.learning_rate, settings.warmup_fraction, settings.schedule, num_updates, update
        ),
        settings.weight_decay,
        settings.max_gradient_norm,
    )
    start, frozen = fresh_params(reference, lora, seed)
    objective = Objective(loss_of(settings.loss), learner.constants)
    trained, lines = run_iterations(start, reference.config, iterations, objective, out, lora=lora, frozen=frozen)
    save_trained(reference, trained, lora, out)
    return numbers_of_record(lines)


@dataclass(frozen=True)
class Learner:
    """From the samples of an iteration to the batches of its updates."""

    settings: GroupPg
    draws: Draws
    reference: Policy
    lora: Lora | None

    @property
    def constants(self) -> dict[str, float]:
        """Scalars that the loss reads."""
        settings, high = self.settings, self.settings.epsilon_high
        if high is None:
            high = EPSILON_HIGH.get(settings.loss, settings.epsilon)
        named = {name: getattr(settings, name) for name in ("epsilon", "kl_weight", "temperature")}
        return {**named, "epsilon_high": high}

    @property
    def needs_reference(self) -> bool:
        return self.settings.kl_weight > 0

    @property
    def needs_old(self) -> bool:
        """Whether the policy that sampled has to read its samples: after the first update it is another one."""
        return self.settings.updates_per_iteration > 1 or (self.needs_reference and self.settings.loss == "rloo")

    def batches(self, params: Params, samples: pd.DataFrame) -> list[Batch]:
        """The micro-batches of each update. params: of the policy that sampled."""
        settings, learned = self.settings, _learned(samples)
        rows, shape = self.sequences(learned), (-1, settings.samples_per_problem)
        arrays = {"tokens": rows.tokens, "mask": rows.mask}
        rewards = learned["reward"].to_numpy().reshape(shape)
        read = partial(logps_of_tokens, config=self.reference.config, rows=rows, temperature=settings.temperature)
        if self.needs_old:
            arrays["old_token_logps"] = read(params)
        if self.needs_reference:
            arrays["ref_token_logps"] = read(self.reference.params)
            if settings.loss == "rloo":
                estimates = (arrays["old_token_logps"] - arrays["ref_token_logps"]).sum(axis=1, dtype=np.float64)
                rewards = rewards - settings.kl_weight * estimates.reshape(shape)
        lengths = rows.mask.sum(axis=1).reshape(shape)
        weights = token_weights(settings.loss, lengths, self.draws.source.limit)
        arrays["token_weight"] = weights.astype(np.float32).ravel()
        updates = np.split(np.arange(len(rewards)), settings.updates_per_iteration)
        gains = np.concatenate([advantages(rewards[of], settings.loss, settings.scale_rewards) for of in updates])
        gains = np.where(gains > 0, settings.positive_weight * gains, gains)
        arrays["advantage"] = gains.astype(np.float32).ravel()
        members = np.arange(len(learned)).reshape(shape)
        return [_cut(arrays, members[of].ravel(), rows.lengths) for of in updates]

    def sequences(self, samples: pd.DataFrame) -> Sequences:
        """Each sample after its prompt."""
        return sequences(self.prompts(samples), [tokens.tolist() for tokens in samples["tokens"]])

    def prompts(self, samples: pd.DataFrame) -> list[list[int]]:
        """The prompt of each sample."""
        source = self.draws.source
        return [source.tokenizer.encode_prompt(source.synthetic[problem].prompt) for problem in samples["problem"]]

    def numbers(self, samples: pd.DataFrame) -> dict[str, float]:
        """What the samples of an iteration show, those of replaced groups included, and what they cost."""
        config, passes = self.reference.config, self.needs_old + self.needs_reference
        prompts, new = list(map(len, self.prompts(samples))), samples["tokens"].map(len)
        learned = (new + prompts)[samples["slot"] >= 0].tolist()
        rewards = samples["reward"].to_numpy().reshape(-1, self.settings.samples_per_problem)
        return {
            "rewards/mean": float(rewards.mean()),
            "groups/solved_fraction": float((rewards.max(axis=1) > 0).mean()),
            "groups/without_gradient_fraction": float((~have_gradient(rewards)).mean()),
            "completions/mean_length": float(new.mean()),
            "completions/truncated_fraction": truncated_fraction(
                [tokens.tolist() for tokens in samples["tokens"]], stop_tokens(config)
            ),
            "num_rollouts": float(len(samples)),
            "num_generated_tokens": float(new.sum()),
            "generation_flops": sampling_flops(config, prompts, new.tolist()),
            "num_tokens": float(sum(learned)),
            "training_flops": training_flops(config, learned, self.lora) + passes * forward_flops(config, learned),
        }


def numbers_of_record(lines: list[dict[str, float]]) -> dict[str, float]:
    """The sums of what was counted, and means of the rest over the last iterations, a twentieth of all."""
    last = pd.DataFrame(lines[-max(1, len(lines) // NUM_LOGGED) :]).drop(columns=["update", "iteration", *COUNTS])
    means = {str(name): float(mean) for name, mean in last.mean().items()}
    return {
        "num_updates": float(lines[-1]["update"]),
        **means,
        **{name: sum(line[name] for line in lines) for name in COUNTS},
        "mean_reward": means["rewards/mean"],
        "mean_entropy": means["train/entropy"],
        "groups_without_gradient_fraction": float(
            np.mean([line["groups/without_gradient_fraction"] for line in lines])
        ),
    }


def _learned(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples that are learned from, group by group."""
    return samples[samples["slot"] >= 0].sort_values("slot", kind="stable")


def _cut(arrays: Mapping[str, np.ndarray], rows: np.ndarray, lengths: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for _, batch in micro_batches(arrays, rows, lengths, len(rows)):
        yield batch
