"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) against the SFT policy, and its kin.

In: the reference policy and preference pairs. Out: the trained policy. What is compared is decided where the pairs
are made (data.pairs): per-step DPO (Setlur et al. 2024, arXiv 2406.14532) is this loss on other pairs, and nothing
here knows which it is. `loss: ipo` is IPO (Azar et al. 2023, arXiv 2310.12036), `loss: simpo` SimPO (Meng et al. 2024,
arXiv 2405.14734), and `label_smoothing` conservative DPO (Mitchell 2023): docs/learners.md has them side by side.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.config.policy import Lora, lora_of
from scaling.config.section import parse
from scaling.config.training import Optimizer, Preference
from scaling.model.flops import forward_flops, training_flops
from scaling.model.policy import Policy, passed_on, policy_of, save_trained
from scaling.model.transformer import Params
from scaling.training.batching import Sequences, sequences
from scaling.training.logps import completion_logps, reference_logps
from scaling.training.loop import train
from scaling.training.update import Apply, Loss, Objective, Sum, Sums


def dpo_loss(logps: jax.Array, ref_logps: jax.Array, beta: jax.Array) -> jax.Array:
    """Negative log-likelihood of the preference (Rafailov et al. 2023, eq. 7).

    logps, ref_logps: float32 [B, 2], completion log-probability, (chosen, rejected) on the last axis; beta: float32 [].
    Returns: float32 [B]; ln 2 where policy and reference agree.
    """
    rewards = beta * (logps - ref_logps)
    return -jax.nn.log_sigmoid(rewards[:, 0] - rewards[:, 1])


def ipo_loss(logps: jax.Array, ref_logps: jax.Array, beta: jax.Array) -> jax.Array:
    """Squared distance of the log-ratios' margin from 1 / (2 beta) (Azar et al. 2023, eq. 17), of arrays as above."""
    ratios = logps - ref_logps
    return jnp.square(ratios[:, 0] - ratios[:, 1] - 1.0 / (2.0 * beta))


# SimPO is DPO per token, against a reference that only prefers the chosen completion by gamma / beta (`run`).
LOSSES: Mapping[str, Callable[..., jax.Array]] = {"sigmoid": dpo_loss, "ipo": ipo_loss, "simpo": dpo_loss}


@cache
def loss_of(loss: str, per_token: bool) -> Loss:
    """The preference loss with these settings: always the same function, so that stages share a compiled update."""
    return partial(preference_loss, loss=loss, per_token=per_token)


def preference_loss(
    apply: Apply, params: Params, batch: Mapping[str, jax.Array], loss: str = "sigmoid", per_token: bool = False
) -> Sums:
    """Mean of a loss over pairs, plus nll_weight times the chosen completion's NLL per token (0 in the papers).

    batch: tokens int32 [B, 2, T] and mask float32 [B, 2, T], (chosen, rejected) on the second axis; ref_logps float32
    [B, 2]; weight float32 [B], 0 for filler; beta and nll_weight float32 []; simpo_margin float32 [] where SimPO has
    one; label float32 [B], the chance that the chosen completion is preferred, where that is not 1 for all.
    """
    batch_size, _, length = batch["tokens"].shape
    tokens, mask = batch["tokens"].reshape(-1, length), batch["mask"].reshape(-1, length)
    logps = completion_logps(apply(params, tokens), tokens, mask).reshape(batch_size, 2)
    compared, ref_logps, beta = logps, batch["ref_logps"], batch["beta"]
    if per_token:
        lengths = jnp.maximum(jnp.sum(batch["mask"], axis=-1), 1.0)
        compared, ref_logps = compared / lengths, ref_logps / lengths
    rewards = beta * (compared - ref_logps)
    if "simpo_margin" in batch:
        ref_logps = ref_logps.at[:, 0].add(batch["simpo_margin"] / beta)
    losses = LOSSES[loss](compared, ref_logps, beta)
    if "label" in batch:
        swapped = LOSSES[loss](compared[:, ::-1], ref_logps[:, ::-1], beta)
        losses = batch["label"] * losses + (1.0 - batch["label"]) * swapped
    chosen_nll = -logps[:, 0] / jnp.maximum(jnp.sum(batch["mask"][:, 0], axis=-1), 1.0)
    margins = rewards[:, 0] - rewards[:, 1]
    weight, count = batch["weight"], jnp.sum(batch["weight"])

    def mean(values: jax.Array) -> Sum:
        return Sum(jnp.sum(values * weight), count)

    return {
        "loss": mean(losses + batch["nll_weight"] * chosen_nll),
        "rewards/margins": mean(margins),
        "rewards/accuracies": mean((margins > 0).astype(jnp.float32)),
        "logps/chosen": mean(logps[:, 0]),
        "logps/rejected": mean(logps[:, 1]),
    }


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Train on pairs. config: dpo (a Preference section), seed, lora if adapters are trained; inputs: reference, pairs.

    The reference policy is the start policy: with lora the params that the adapters are added to, merged ones of SFT.
    SimPO starts from it and does not read it again. A column `label` of the pairs holds soft labels. No pairs, which
    only a round after the first may have: the policy is the reference.
    """
    settings, lora = parse(Preference, config["dpo"]), lora_of(config)
    reference = policy_of(inputs, "reference")
    pairs = pd.read_parquet(inputs["pairs"] / "pairs.parquet")
    if pairs.empty:
        return {**passed_on(reference, out), "num_pairs": 0.0}
    rows = pair_sequences(pairs)
    constants = {"beta": settings.beta, "nll_weight": settings.nll_weight}
    if settings.loss == "simpo":
        arrays, scoring = {"ref_logps": np.zeros((len(pairs), 2), np.float32)}, 0.0
        constants["simpo_margin"] = settings.simpo_margin
    else:
        arrays = {"ref_logps": reference_logps(reference, rows).reshape(-1, 2)}
        scoring = forward_flops(reference.config, rows.lengths.tolist())
    if "label" in pairs or settings.label_smoothing:
        arrays["label"] = smoothed(pairs.get("label", np.ones(len(pairs))), settings.label_smoothing)
    loss = loss_of(settings.loss, settings.per_token or settings.loss == "simpo")
    kept = config.get("snapshots", 0)
    objective = Objective(loss, constants, packs=True)
    numbers = fit_pairs(reference, rows, arrays, objective, settings, config["seed"], out, lora, kept)
    return {**numbers, "training_flops": numbers["training_flops"] + scoring}


def smoothed(labels: npt.ArrayLike, smoothing: float) -> np.ndarray:
    """Chances float32 [N] that the chosen completion is preferred, if a share of all pairs is the wrong way round."""
    return (smoothing + (1.0 - 2.0 * smoothing) * np.asarray(labels, float)).astype(np.float32)


def fit_pairs(
    start: Policy,
    rows: Sequences,
    arrays: Mapping[str, np.ndarray],
    objective: Objective,
    settings: Optimizer,
    seed: int,
    out: Path,
    lora: Lora | None = None,
    num_snapshots: int = 0,
) -> dict[str, float]:
    """Minimise a loss over pairs from a start policy, save the policy, and return the numbers of a record.

    rows: as `pair_sequences` gives them, N pairs. arrays: [N, ...] each, what the loss reads beside tokens and mask.
    """
    num_pairs, lengths = len(rows.lengths) // 2, rows.lengths.tolist()
    batch = {name: getattr(rows, name).reshape(num_pairs, 2, -1) for name in ("tokens", "mask")}
    of_pairs = rows.lengths.reshape(-1, 2)
    trained, metrics = train(start, {**batch, **arrays}, of_pairs, objective, settings, seed, out, lora, num_snapshots)
    save_trained(start, trained, lora, out)
    return {
        **metrics,
        "num_pairs": float(num_pairs),
        "num_tokens": float(rows.lengths.sum()),
        "training_flops": settings.epochs * training_flops(start.config, lengths, lora),
    }


def pair_sequences(pairs: pd.DataFrame) -> Sequences:
    """Rows 2i and 2i + 1 are the chosen and the rejected completion of pair i, each after the pair's context."""
    contexts: list[list[int]] = []
    completions: list[list[int]] = []
    for context, chosen, rejected in zip(pairs["context"], pairs["chosen"], pairs["rejected"], strict=True):
        contexts += [list(context)] * 2
        completions += [list(chosen), list(rejected)]
    return sequences(contexts, completions)
