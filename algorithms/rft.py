"""Rejection-sampling fine-tuning: SFT on self-generated correct solutions (Yuan et al. 2023, arXiv 2308.01825).

In: verified rollouts of the SFT policy and D_syn. Out: a policy trained on the positives. Setlur et al. 2024 (arXiv
2406.14532) do not say whether training starts from the base or the SFT policy, nor whether D_syn is mixed in: both
are settings.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from algorithms.sft import fit, synthetic_pairs
from data.pairs import unique
from data.records import read_problems
from data.tokenizer import tokenizer_of
from data.verifier import load_verified
from scaling.model.policy import policy_of
from scaling.policy_config import lora_of
from scaling.problem_config import Problems
from scaling.section import parse
from scaling.training.batching import sequences
from scaling.training_config import Rft

_POSITIVES = 0x905


def select_positives(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Keep up to max_positives different positives a problem. Writes positives.parquet: problem, prompt, tokens.

    config: problems, positives (max_positives, keep), seed; inputs: synthetic, rollouts, verification.
    """
    tokenizer = tokenizer_of(parse(Problems, config["problems"]), inputs)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    verified = load_verified(inputs["rollouts"], inputs["verification"])
    right = verified[verified["reward"] == 1.0]
    rows = []
    for problem, group in right.groupby("problem", sort=True):
        rng = np.random.default_rng([_POSITIVES, config["seed"], int(problem)])
        different = unique(group["tokens"])
        order = [different[index] for index in rng.permutation(len(different))]
        if config["positives"]["keep"] == "distinct":
            order = most_distinct(order, config["positives"]["max_positives"])
        prompt = tokenizer.encode_prompt(synthetic[problem].prompt)
        rows += [(int(problem), prompt, tokens) for tokens in order[: config["positives"]["max_positives"]]]
    frame = pd.DataFrame(rows, columns=["problem", "prompt", "tokens"])
    frame.to_parquet(out / "positives.parquet")
    return {
        "num_positives": float(len(frame)),
        "num_positives_before_limit": float(len(right)),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / len(synthetic),
    }


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


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """NLL on the positives, and on D_syn where `include_synthetic` says so.

    config: problems, rft, seed, and lora if adapters are trained; inputs: start, synthetic, positives.
    """
    settings = parse(Rft, config["rft"])
    positives = pd.read_parquet(inputs["positives"] / "positives.parquet")
    prompts = [list(tokens) for tokens in positives["prompt"]]
    completions = [list(tokens) for tokens in positives["tokens"]]
    if settings.include_synthetic:
        more_prompts, more_completions = synthetic_pairs(config, inputs)
        prompts, completions = prompts + more_prompts, completions + more_completions
    if not prompts:
        raise ValueError(
            "rft: there are no positives to train on and include_synthetic is false; raise"
            " rollouts.samples_per_problem, or set rft.include_synthetic: true."
        )
    rows = sequences(prompts, completions)
    return fit(policy_of(inputs, "start"), rows, settings, config["seed"], out, lora_of(config))
