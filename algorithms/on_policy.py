"""What on-policy learners share: the start of a stage, what its samples show and cost, and the parts of their losses.

In: a stage's config and inputs, how samples are drawn and what they become. Out: a trained policy, and the numbers of a
record. A learner in a module of its own says what it learns from its samples, and its loss.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from data.continuations import Source
from data.groups import Draws
from data.records import read_problems
from data.rewards import verifier_of
from data.sampling.completions import truncated_fraction
from data.tokens.tokenizer import completion_limit, tokenizer_of
from scaling.config.on_policy import OnPolicy
from scaling.config.policy import Lora, lora_of
from scaling.config.problems import problems_of
from scaling.config.section import parse
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.policy import Policy, policy_of, save_trained
from scaling.model.sampling import stop_tokens
from scaling.model.transformer import Params
from scaling.training.batching import Sequences, micro_batches, sequences
from scaling.training.logps import logps_of_tokens, token_logps
from scaling.training.loop import NUM_LOGGED
from scaling.training.on_policy import Batch, run_iterations
from scaling.training.update import Apply, Objective

Settings = TypeVar("Settings", bound=OnPolicy)


@dataclass(frozen=True)
class Start(Generic[Settings]):
    """What a stage begins with."""

    settings: Settings
    source: Source
    reference: Policy  # which training starts from
    lora: Lora | None
    num_snapshots: int = 0  # policies to keep on the way, the last one among them

    def draws(self, num_replacing: int = 0) -> Draws:
        """What is sampled in each iteration. num_replacing: most attempts to replace groups of equal rewards."""
        settings = self.settings
        num_groups = settings.problems_per_update * settings.updates_per_iteration
        samples, temperature = settings.samples_per_problem, settings.temperature
        return Draws(self.source, self.reference.config, num_groups, samples, num_replacing, temperature)

    def prompts(self, samples: pd.DataFrame) -> list[list[int]]:
        """The prompt of each sample."""
        return self.source.prompts(samples["problem"].tolist())

    def sequences(self, samples: pd.DataFrame) -> Sequences:
        """Each sample after its prompt."""
        return sequences(self.prompts(samples), [tokens.tolist() for tokens in samples["tokens"]])

    def logps(self, params: Params, rows: Sequences) -> np.ndarray:
        """Log-probability float32 [N, T] of each sampled token under a policy, at the temperature."""
        return logps_of_tokens(params, self.reference.config, rows, self.settings.temperature)


def start_of(
    config: Mapping[str, Any], inputs: Mapping[str, Path], section: str, schema: type[Settings]
) -> Start[Settings]:
    """config: problems, the section, seed; verifier where it is not exact, lora if adapters are trained.

    inputs: reference, synthetic, and tokenizer if imported.
    """
    settings, problems = parse(schema, config[section]), problems_of(config)
    tokenizer = tokenizer_of(problems, inputs)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    limit = completion_limit(problems, tokenizer, settings.max_new_tokens)
    source = Source(problems, tokenizer, synthetic, config["seed"], limit, verifier_of(config))
    return Start(settings, source, policy_of(inputs, "reference"), lora_of(config), config.get("snapshots", 0))


def train(
    start: Start[Any],
    sample: Callable[[Params, int], pd.DataFrame],
    batches: Callable[[Params, pd.DataFrame], list[Batch]],
    numbers: Callable[[pd.DataFrame], Mapping[str, float]],
    objective: Objective,
    out: Path,
) -> dict[str, float]:
    """Sample, judge and update for all iterations, and save the policy. Returns the numbers of the record.

    For sample, batches and numbers see `run_iterations`.
    """
    policy, lora, seed, kept = start.reference, start.lora, start.source.seed, start.num_snapshots
    trained, lines = run_iterations(policy, start.settings, sample, batches, numbers, objective, seed, out, lora, kept)
    save_trained(policy, trained, lora, out)
    return numbers_of_record(lines)


def learned_from(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples that are learned from, group by group."""
    return samples[samples["slot"] >= 0].sort_values("slot", kind="stable")


def batches_of(start: Start[Any], arrays: Mapping[str, np.ndarray], lengths: np.ndarray) -> list[Batch]:
    """The micro-batches of each update of an iteration, which learns from whole groups, in their order.

    arrays: [N, ...] each; lengths: int [N], tokens of each row.
    """
    updates = np.split(np.arange(len(lengths)), start.settings.updates_per_iteration)
    return [(batch for _, batch in micro_batches(arrays, rows, lengths, len(rows))) for rows in updates]


def numbers_of(
    start: Start[Any], samples: pd.DataFrame, more: Mapping[str, float], passes: float = 0.0
) -> dict[str, float]:
    """What the samples of an iteration show, those of replaced groups included, and what they cost.

    more: what else they show; passes: forward passes over what is learned from, beside those of training.
    """
    config = start.reference.config
    prompts, new = list(map(len, start.prompts(samples))), samples["tokens"].map(len)
    learned = (new + prompts)[samples["slot"] >= 0].tolist()
    rewards = rewards_of(start, samples)
    return {
        "rewards/mean": float(rewards.mean()),
        "groups/solved_fraction": float((rewards.max(axis=1) > 0).mean()),
        **more,
        "completions/mean_length": float(new.mean()),
        "completions/truncated_fraction": truncated_fraction(
            [tokens.tolist() for tokens in samples["tokens"]], stop_tokens(config)
        ),
        "num_rollouts": float(len(samples)),
        "num_generated_tokens": float(new.sum()),
        "generation_flops": sampling_flops(config, prompts, new.tolist()),
        "num_tokens": float(sum(learned)),
        "training_flops": training_flops(config, learned, start.lora) + passes * forward_flops(config, learned),
    }


def rewards_of(start: Start[Any], samples: pd.DataFrame) -> np.ndarray:
    """float [N, G]: of the completions of each group."""
    found: np.ndarray = samples["reward"].to_numpy().reshape(-1, start.settings.samples_per_problem)
    return found


def numbers_of_record(lines: list[dict[str, float]]) -> dict[str, float]:
    """The sums of what was counted, and means of the rest over the last iterations, a twentieth of all."""
    counts = [name for name in lines[0] if name.startswith("num_") or name.endswith("_flops")]
    last = pd.DataFrame(lines[-max(1, len(lines) // NUM_LOGGED) :]).drop(columns=["update", "iteration", *counts])
    means = {str(name): float(mean) for name, mean in last.mean().items()}
    without = [line["groups/without_gradient_fraction"] for line in lines if "groups/without_gradient_fraction" in line]
    return {
        "num_updates": float(lines[-1]["update"]),
        **means,
        **{name: sum(line[name] for line in lines) for name in counts},
        "mean_reward": means["rewards/mean"],
        "mean_entropy": means["train/entropy"],
        **({"groups_without_gradient_fraction": float(np.mean(without))} if without else {}),
    }


# Parts of losses.


def logits_and_logps(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Logits float32 [B, T, V] at the temperature, and the log-probability float32 [B, T] of each completion token."""
    logits = apply(params, batch["tokens"]).astype(jnp.float32) / batch["temperature"]
    return logits, token_logps(logits, batch["tokens"]) * batch["mask"]


def clipped_gain(ratios: jax.Array, gains: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The surrogate min(ratio gain, clip(ratio) gain), and where the clip binds; shapes broadcast.

    Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    objective = jnp.minimum(ratios * gains, jnp.clip(ratios, low, high) * gains)
    return objective, ((ratios > high) & (gains > 0)) | ((ratios < low) & (gains < 0))


def k3(log_ratio: jax.Array) -> jax.Array:
    """An unbiased estimate of KL(pi, pi_ref), never negative. log_ratio: log pi_ref / pi of tokens drawn from pi."""
    return jnp.exp(log_ratio) - log_ratio - 1.0


def entropy(logits: jax.Array) -> jax.Array:
    """Of the token that follows, float32 [B, T], at the place of that token. No gradient."""
    log_probs = jax.nn.log_softmax(jax.lax.stop_gradient(logits[:, :-1]), axis=-1)
    return jnp.pad(-jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), ((0, 0), (1, 0)))
