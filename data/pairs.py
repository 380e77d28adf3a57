"""Preference pairs: what is compared is data, so that DPO and per-step DPO share one loss and one training stage.

In: D_syn, verified rollouts and, for pairs at the first pit, step values. Out: `pairs.parquet`, one row a pair:
problem, context, chosen, rejected (token lists; context is what both are conditioned on).

- `run` makes the pairs of DPO: full correct against full incorrect completions, at random or, as the second control,
  each negative with the positive at the largest edit distance.
- `run_at_pits` makes those of per-step DPO (Setlur et al. 2024, arXiv 2406.14532, algorithm 1). Pair modes:
  full_vs_prefix: a full correct completion against the negative up to and including its first pit;
  shared_prefix: after the steps before the pit, a correct continuation of the rollout policy against the pit step;
  full_vs_full: the same negatives, whole, against a full correct completion.

The positives of a problem are its different correct rollouts and, unless `teacher_positives` is false, the teacher's
solution where it verifies. A shared-prefix pair whose pit is the first step has the bare prompt as its context: there a
correct continuation of the rollout policy is a correct rollout, and the teacher's solution is not one. With `chosen:
highest_value` a correct continuation is chosen among those that begin with the step of the highest Q, as the other
continuations of the prefix estimate it: a verifier that lets wrong answers pass rewards most continuations of a wrong
step now and then, and those of a right one often.

It is an error if no problem gives a pair, except in a round after the first: there the policy has nothing left to learn
from its own mistakes, so the table is empty and the round passes the policy on.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from data.q_values import first_pit
from data.rollout_tables import (
    by_problem,
    different,
    positives_by_problem,
    read_verified,
    rewarded,
    right_rollouts,
    with_tokens,
)
from data.tokens.steps import step_cutter

_PAIRS = 0xBA125  # keeps the pairing's generators apart from other uses of the seed


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Pairs of full completions. config: problems, pairs, seed; inputs: synthetic, rollouts, verification."""
    verified = read_verified(config, inputs)
    pairing, per_problem = config["pairs"]["pairing"], config["pairs"]["pairs_per_problem"]
    positives = positives_by_problem(verified, config["pairs"].get("teacher_positives", True))
    rows = []
    for problem, negatives in by_problem(verified.rollouts[verified.rollouts["reward"] == 0.0]):
        if not positives[problem]:
            continue
        rng = np.random.default_rng([_PAIRS, config["seed"], problem])
        rejected = different(negatives["tokens"])
        for index in rng.permutation(len(rejected))[:per_problem]:
            chosen = _partner(rejected[index], positives[problem], pairing, rng)
            rows.append((problem, verified.prompt(problem), chosen, rejected[index]))
    return _write(rows, len(verified.synthetic), out, may_be_empty="round" in config)


def run_at_pits(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Pairs at the first pit of each negative that has step values. inputs: also step_values."""
    verified = read_verified(config, inputs)
    traces = verified.traces(inputs["step_values"])
    continuations = with_tokens(pd.read_parquet(inputs["step_values"] / "continuations.parquet"), verified.ended)
    settings = config["pairs"]
    mode, rule = settings["pair_mode"], settings["pit_rule"]
    right_after, own = rewarded(continuations, ["problem", "sample", "step"]), right_rollouts(verified.rollouts)
    positives = positives_by_problem(verified, settings.get("teacher_positives", True))
    if settings.get("chosen") == "highest_value":
        cut = step_cutter(verified.problems, verified.tokenizer)
        own = {key: best_begun(group, cut) for key, group in by_problem(verified.rollouts)}
        by_prefix = continuations.groupby(["problem", "sample", "step"])
        right_after = {key: best_begun(group, cut) for key, group in by_prefix}
    rows, pits, without_partner = [], [], 0
    for trace in traces[traces["reward"] == 0.0].itertuples(index=False):
        rng = np.random.default_rng([_PAIRS, config["seed"], int(trace.problem), int(trace.sample)])
        pit = first_pit(trace.q_values, trace.prompt_value, rule)
        prompt = verified.prompt(trace.problem)
        start = trace.step_ends[pit - 1] if pit else 0
        if mode != "shared_prefix":
            partners = positives[trace.problem]
        elif pit:
            partners = right_after.get((trace.problem, trace.sample, pit - 1), [])
        else:
            partners = own.get(trace.problem, [])
        if not partners:  # with a pit rule other than the first Q = 0, no continuation before it need be right
            without_partner += 1
            continue
        chosen = partners[rng.integers(len(partners))]
        end = trace.step_ends[pit]
        context, rejected = {
            "full_vs_prefix": (prompt, trace.tokens[:end]),
            "shared_prefix": (prompt + trace.tokens[:start], trace.tokens[start:end]),
            "full_vs_full": (prompt, trace.tokens),
        }[mode]
        pits.append(pit)
        rows.append((int(trace.problem), context, chosen, rejected))
    numbers = _write(rows, len(verified.synthetic), out, may_be_empty="round" in config)
    numbers["num_negatives_without_partner"] = float(without_partner)
    return numbers | ({"mean_pit": float(np.mean(pits))} if pits else {})


def best_begun(completions: pd.DataFrame, step_ends: Callable[[Sequence[int]], list[int]]) -> list[list[int]]:
    """The correct ones among completions of one prefix that begin with the step of the highest Q; none: no correct one.

    Q of a step is the mean of a uniform prior after the rewards of those that begin with it, so that one correct
    completion of one does not beat seven of eight. completions: columns tokens, reward.
    """
    begun: dict[tuple[int, ...], list[tuple[list[int], float]]] = {}
    for tokens, reward in zip(completions["tokens"], completions["reward"], strict=True):
        tokens = list(map(int, tokens))
        begun.setdefault(tuple(tokens[: (step_ends(tokens) or [0])[0]]), []).append((tokens, reward))
    values = {step: (1 + sum(r for _, r in found)) / (2 + len(found)) for step, found in begun.items()}
    for step in sorted(begun, key=lambda step: -values[step]):  # stable: the first seen among equals
        if right := different(tokens for tokens, reward in begun[step] if reward == 1.0):
            return right
    return []


def _partner(rejected: list[int], positives: list[list[int]], pairing: str, rng: np.random.Generator) -> list[int]:
    if pairing == "random":
        return positives[rng.integers(len(positives))]
    distances = [Levenshtein.distance(rejected, positive) for positive in positives]
    return positives[int(np.argmax(distances))]


def _write(rows: list[tuple[Any, ...]], num_problems: int, out: Path, may_be_empty: bool) -> dict[str, float]:
    if not rows and not may_be_empty:
        raise ValueError(
            f"pairs: none of {num_problems} problems gives a pair, because no rollout is wrong or no wrong one has a"
            " correct one to be compared with; raise rollouts.samples_per_problem or rollouts.temperature, or train the"
            " SFT policy less."
        )
    frame = pd.DataFrame(rows, columns=["problem", "context", "chosen", "rejected"])
    frame.to_parquet(out / "pairs.parquet")
    return {
        "num_pairs": float(len(frame)),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / num_problems,
    }
