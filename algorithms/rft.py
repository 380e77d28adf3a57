"""Rejection-sampling fine-tuning: SFT on self-generated correct solutions (Yuan et al. 2023, arXiv 2308.01825).

In: verified rollouts of the SFT policy and D_syn. Out: a policy trained on the positives. Setlur et al. 2024 (arXiv
2406.14532) do not say whether training starts from the base or the SFT policy, nor whether D_syn is mixed in: both
are settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from algorithms.sft import fit_chosen
from data.q_values import advantages
from data.rollout_tables import by_problem, different, read_verified
from scaling.config.section import parse
from scaling.config.training import Rft

BY_VALUE = ("low_value", "high_value")
_POSITIVES = 0x905


def select_positives(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Keep up to max_positives different positives a problem.

    config: problems, positives (max_positives, keep), seed; inputs: synthetic, rollouts, verification; step_values
    where they are kept by value; and `before` where the positives of earlier rounds count too: then those are all kept,
    and up to max_positives others added. Writes positives.parquet: problem, prompt, tokens, num_steps, spurious_steps.
    """
    verified = read_verified(config, inputs)
    right = verified.rollouts[verified.rollouts["reward"] == 1.0]
    keep, limit = config["positives"]["keep"], config["positives"]["max_positives"]
    worst = lowest_advantages(verified.traces(inputs["step_values"])) if keep in BY_VALUE else {}
    rows = _rows_before(inputs)
    known = {(row[0], tuple(row[2])) for row in rows}
    for problem, group in by_problem(right):
        rng = np.random.default_rng([_POSITIVES, config["seed"], problem])
        new = [tokens for tokens in different(group["tokens"]) if (problem, tuple(tokens)) not in known]
        order = [new[index] for index in rng.permutation(len(new))]
        if keep == "distinct":
            order = most_distinct(order, limit)
        elif keep in BY_VALUE:
            order = [tokens for tokens in order if (problem, tuple(tokens)) in worst]
            # Those with the worst step first, or last for `high_value`; ties as they come.
            order.sort(key=lambda tokens: worst[problem, tuple(tokens)], reverse=keep == "high_value")
        prompt = verified.prompt(problem)
        steps = {
            tuple(tokens): counts
            for tokens, *counts in zip(group["tokens"], group["num_steps"], group["spurious_steps"], strict=True)
        }
        rows += [(problem, prompt, tokens, *steps[tuple(tokens)]) for tokens in order[:limit]]
    frame = pd.DataFrame(rows, columns=["problem", "prompt", "tokens", "num_steps", "spurious_steps"])
    frame = frame.astype({"spurious_steps": "Int64"})  # unknown where the verifier does not judge steps
    frame.to_parquet(out / "positives.parquet")
    numbers = {
        "num_positives": float(len(frame)),
        "num_positives_before_limit": float(len(right)),
        "num_learned_steps": float(frame["num_steps"].sum()),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / len(verified.synthetic),
    }
    if len(frame) and frame["spurious_steps"].notna().all():
        numbers["num_spurious_steps"] = float(frame["spurious_steps"].sum())
        numbers["num_spurious_traces"] = float((frame["spurious_steps"] > 0).sum())
    return numbers


def lowest_advantages(traces: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """(problem, tokens) of every right trace with step values -> the least advantage among its steps."""
    return {
        (trace.problem, tuple(trace.tokens)): min(advantages(trace.q_values, trace.prompt_value))
        for trace in traces[traces["reward"] == 1.0].itertuples(index=False)
    }


def _rows_before(inputs: Mapping[str, Path]) -> list[tuple[Any, ...]]:
    """The positives of the rounds before, where they are pooled."""
    if "before" not in inputs:
        return []
    frame = pd.read_parquet(inputs["before"] / "positives.parquet")
    return [(row[0], list(row[1]), list(row[2]), *row[3:]) for row in frame.itertuples(index=False)]


def most_distinct(completions: list[list[int]], count: int) -> list[list[int]]:
    """Greedy choice of count completions, each the farthest (Levenshtein, on tokens) from those chosen before it.

    The first of the list is chosen first; of equals the earlier is.
    """
    chosen = completions[:1]
    distance = [float("inf")] * len(completions)
    while len(chosen) < min(count, len(completions)):
        distance = [
            min(known, Levenshtein.distance(candidate, chosen[-1]))
            for known, candidate in zip(distance, completions, strict=True)
        ]
        chosen.append(completions[int(np.argmax(distance))])
    return chosen


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """NLL on the positives, and on D_syn where `include_synthetic` says so.

    config: problems, rft, seed, and lora if adapters are trained; inputs: start, synthetic, positives.
    """
    positives = pd.read_parquet(inputs["positives"] / "positives.parquet")
    positives["mask"] = [[1.0] * len(tokens) for tokens in positives["tokens"]]
    nothing = (
        "rft: there are no positives to train on and include_synthetic is false; raise rollouts.samples_per_problem, or"
        " set rft.include_synthetic: true."
    )
    return fit_chosen(positives, parse(Rft, config["rft"]), config, inputs, out, nothing, packs=True)
