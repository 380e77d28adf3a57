"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306) against the SFT policy: no pairs needed.

In: the reference policy and completions, each desirable or undesirable. Out: the trained policy. What is labelled is
decided where the rows are made: `label_completions` takes right and wrong rollouts; `label_steps` takes single steps,
by the sign of their advantage, and is not Step-KTO, which rewards process and outcome.

The reference point of a batch is the mean log-ratio of mismatched rows, at least 0, without a gradient (eq. 7). Here a
row's mismatched twin is fixed: its context with the completion of a row of the next problem.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from algorithms.dpo import pair_sequences
from data.q_values import advantages
from data.rollout_tables import by_problem, different, positives_by_problem, read_verified
from scaling.config.policy import lora_of
from scaling.config.section import parse
from scaling.config.training import Unpaired
from scaling.model.flops import forward_flops, training_flops
from scaling.model.policy import passed_on, policy_of, save_trained
from scaling.model.transformer import Params
from scaling.training.batching import Sequences
from scaling.training.logps import completion_logps, reference_logps
from scaling.training.loop import train
from scaling.training.update import Apply, Objective, Sum, Sums

_ROWS = 0x470  # keeps the choice of completions apart from other uses of the seed


def kto_loss(ratios: jax.Array, desirable: jax.Array, kl: jax.Array, beta: jax.Array) -> jax.Array:
    """1 - v (Ethayarajh et al. 2024, eq. 7): v = sigmoid(beta (ratio - z)) where desirable, else of the opposite.

    ratios, desirable: float32 [B], log pi / pi_ref of a completion, and 1 or 0; kl float32 []: z before it is cut at 0.
    Returns: float32 [B]; 1/2 where the ratio is z.
    """
    signs = 2.0 * desirable - 1.0
    return jax.nn.sigmoid(-signs * beta * (ratios - jnp.maximum(kl, 0.0)))


def unpaired_loss(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """Mean over rows of kto_loss times the weight of the row's label.

    batch: tokens int32 [B, 2, T] and mask float32 [B, 2, T], (own, mismatched) on the second axis; ref_logps float32
    [B, 2]; desirable and weight float32 [B], weight 0 for filler; kl (`divergence`), beta, desirable_weight and
    undesirable_weight float32 [].
    """
    ratios = _ratios(apply, params, batch, 0)
    desirable, weight = batch["desirable"], batch["weight"]
    of_label = desirable * batch["desirable_weight"] + (1.0 - desirable) * batch["undesirable_weight"]
    losses = of_label * kto_loss(ratios, desirable, batch["kl"], batch["beta"])
    rewards, count = batch["beta"] * ratios, jnp.sum(weight)
    return {
        "loss": Sum(jnp.sum(losses * weight), count),
        "kl/reference_point": Sum(jnp.maximum(batch["kl"], 0.0) * count, count),
        "rewards/chosen": Sum(jnp.sum(rewards * desirable * weight), jnp.sum(desirable * weight)),
        "rewards/rejected": Sum(jnp.sum(rewards * (1.0 - desirable) * weight), jnp.sum((1.0 - desirable) * weight)),
    }


def divergence(apply: Apply, params: Params, batch: Mapping[str, jax.Array]) -> Sums:
    """kl: mean log-ratio of the mismatched rows of a whole batch. batch: as in unpaired_loss."""
    return {"kl": Sum(jnp.sum(_ratios(apply, params, batch, 1) * batch["weight"]), jnp.sum(batch["weight"]))}


def _ratios(apply: Apply, params: Params, batch: Mapping[str, jax.Array], which: int) -> jax.Array:
    tokens, mask = batch["tokens"][:, which], batch["mask"][:, which]
    return completion_logps(apply(params, tokens), tokens, mask) - batch["ref_logps"][:, which]


def label_completions(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Up to completions_per_problem different right ones of a problem, and as many wrong ones. Writes labelled.parquet.

    config: problems, labelled (completions_per_problem, teacher_positives), seed; inputs: synthetic, rollouts,
    verification. The right ones are its rollouts and, unless teacher_positives is false, the teacher's solution.
    """
    verified = read_verified(config, inputs)
    settings, limit = config["labelled"], config["labelled"]["completions_per_problem"]
    right = positives_by_problem(verified, settings.get("teacher_positives", True))
    negatives = by_problem(verified.rollouts[verified.rollouts["reward"] == 0.0])
    wrong = {problem: different(group["tokens"]) for problem, group in negatives}
    rows = []
    for problem, positives in enumerate(right):
        rng = np.random.default_rng([_ROWS, config["seed"], problem])
        context = verified.prompt(problem)
        for desirable, found in ((True, positives), (False, wrong.get(problem, []))):
            rows += [(problem, context, found[at], desirable) for at in rng.permutation(len(found))[:limit]]
    return _write(rows, len(right), out)


def label_steps(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Every step of every trace, desirable where its advantage is above 0, undesirable below. Writes labelled.parquet.

    config: problems; inputs: synthetic, rollouts, verification, step_values. A step that changes nothing is left out.
    """
    verified, rows = read_verified(config, inputs), []
    for trace in verified.traces(inputs["step_values"]).itertuples(index=False):
        prompt, starts = verified.prompt(trace.problem), [0, *trace.step_ends[:-1]]
        gains = advantages(trace.q_values, trace.prompt_value)
        for start, end, gain in zip(starts, trace.step_ends, gains, strict=True):
            if gain:
                context = [*prompt, *trace.tokens[:start]]
                rows.append((int(trace.problem), context, trace.tokens[start:end], gain > 0))
    return _write(rows, len(verified.synthetic), out)


def _write(rows: Sequence[tuple[Any, ...]], num_problems: int, out: Path) -> dict[str, float]:
    frame = pd.DataFrame(rows, columns=["problem", "context", "completion", "desirable"]).astype({"desirable": bool})
    frame.to_parquet(out / "labelled.parquet")
    return {
        "num_desirable": float(frame["desirable"].sum()),
        "num_undesirable": float((~frame["desirable"]).sum()),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / num_problems,
    }


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Train on labelled rows. config: kto (an Unpaired section), seed, lora if adapters are trained; inputs: reference,
    labelled.

    The reference policy is the start policy. Rows of fewer than two problems have no mismatched twins: an error in the
    first round, while a later one passes the policy on.
    """
    settings, lora = parse(Unpaired, config["kto"]), lora_of(config)
    reference = policy_of(inputs, "reference")
    table = pd.read_parquet(inputs["labelled"] / "labelled.parquet")
    if table["problem"].nunique() < 2:
        if "round" in config:
            return {**passed_on(reference, out), "num_sequences": 0.0}
        raise ValueError(
            f"kto: {len(table)} labelled rows of {table['problem'].nunique()} problems, but the reference point needs"
            " completions of another problem; raise rollouts.samples_per_problem, rollouts.temperature or data_size."
        )
    rows = with_mismatched(table)
    arrays = {name: getattr(rows, name).reshape(len(table), 2, -1) for name in ("tokens", "mask")}
    arrays["ref_logps"] = reference_logps(reference, rows).reshape(-1, 2)
    arrays["desirable"] = table["desirable"].to_numpy(np.float32)
    lengths = rows.lengths.reshape(-1, 2)
    constants = {name: getattr(settings, name) for name in ("beta", "desirable_weight", "undesirable_weight")}
    objective = Objective(unpaired_loss, constants, divergence)
    seed, kept = config["seed"], config.get("snapshots", 0)
    trained, metrics = train(reference, arrays, lengths.max(axis=1), objective, settings, seed, out, lora, kept)
    save_trained(reference, trained, lora, out)
    own, mismatched = lengths.T.tolist()
    forward = forward_flops(reference.config, mismatched)
    return {
        **metrics,
        "num_sequences": float(len(table)),
        "num_tokens": float(lengths[:, 0].sum()),
        "training_flops": settings.epochs * (training_flops(reference.config, own, lora) + forward)
        + forward_flops(reference.config, own)
        + forward,
    }


def with_mismatched(table: pd.DataFrame) -> Sequences:
    """Rows 2i and 2i + 1 are row i and its mismatched twin: its context, and a completion of the next problem."""
    twins = table["completion"].iloc[next_problems(table["problem"].to_numpy())].to_list()
    return pair_sequences(table.assign(chosen=table["completion"], rejected=twins))


def next_problems(problems: np.ndarray) -> list[int]:
    """For each row the index of a row of the next problem, the first problem after the last."""
    members = [np.flatnonzero(problems == problem) for problem in np.unique(problems)]
    after = dict(zip(np.unique(problems), [*members[1:], members[0]], strict=True))
    rank = pd.Series(problems).groupby(problems).cumcount()
    return [int(after[problem][at % len(after[problem])]) for problem, at in zip(problems, rank, strict=True)]
