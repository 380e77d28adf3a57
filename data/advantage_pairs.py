"""Pairs of steps after the same prefix with soft labels (Setlur et al. 2024, arXiv 2406.14532, theorem 6.1).

In: D_syn, verified rollouts and Q of their steps. Out: `pairs.parquet` as data.pairs writes it, with one column more:
`label`, the chance P(chosen over rejected) = sigmoid((A(chosen) - A(rejected)) / scale).

Two traces of a problem that are alike up to some step were in the same state there, and the policy took two steps from
it. So each step of each trace is compared with another one that some other trace took after the same prefix, drawn at
random by (seed, problem): two steps that are alike would teach nothing. States are visited as often as the policy
visits them, and the advantages are those that `awr` weighs the same traces with; as the state is the same, A(a) - A(b)
is Q(a) - Q(b). The step with the larger Q is the chosen one. DPO on such pairs has the optimum of advantage-weighted RL
whose beta is DPO's times the scale; hard labels have none.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.rollout_tables import by_problem, read_verified

_PAIRS = 0x50F7  # keeps the choice of partners apart from other uses of the seed
Step = tuple[tuple[int, ...], float]  # its tokens and its Q


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Make the pairs. config: problems, labels (scale), seed; inputs: synthetic, rollouts, verification, step_values.

    It is an error if no two traces of a problem ever part, except in a round after the first.
    """
    verified, rows = read_verified(config, inputs), []
    for problem, group in by_problem(verified.traces(inputs["step_values"])):
        rng = np.random.default_rng([_PAIRS, config["seed"], problem])
        prompt = verified.prompt(problem)
        for prefix, chosen, rejected in compared(steps_by_prefix(group), rng):
            chance = label(chosen, rejected, config["labels"]["scale"])
            rows.append((problem, [*prompt, *prefix], list(chosen[0]), list(rejected[0]), chance))
    if not rows and "round" not in config:
        raise ValueError(
            f"advantage_pairs: no two traces of any of {len(verified.synthetic)} problems take different steps after"
            " the same prefix; raise step_dpo.traces_per_problem or rollouts.temperature."
        )
    frame = pd.DataFrame(rows, columns=["problem", "context", "chosen", "rejected", "label"])
    frame.to_parquet(out / "pairs.parquet")
    return {
        "num_pairs": float(len(frame)),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / len(verified.synthetic),
    }


def label(chosen: Step, rejected: Step, scale: float) -> float:
    """P(chosen over rejected), by a logistic law in the difference of their advantages."""
    return float(1.0 / (1.0 + np.exp(-(chosen[1] - rejected[1]) / scale)))


def steps_by_prefix(traces: pd.DataFrame) -> dict[tuple[int, ...], list[Step]]:
    """What the traces of a problem did next, after each prefix of their steps."""
    found: dict[tuple[int, ...], list[Step]] = {}
    for trace in traces.itertuples(index=False):
        if None in trace.q_values:
            raise ValueError(
                "soft labels need Q of every step, but an adaptive estimate leaves some unknown; set"
                " step_values.adaptive: false."
            )
        starts = [0, *trace.step_ends[:-1]]
        for start, end, q_value in zip(starts, trace.step_ends, trace.q_values, strict=True):
            found.setdefault(tuple(trace.tokens[:start]), []).append((tuple(trace.tokens[start:end]), q_value))
    return found


def compared(
    steps: Mapping[tuple[int, ...], list[Step]], rng: np.random.Generator
) -> Iterator[tuple[tuple[int, ...], Step, Step]]:
    """(prefix, chosen, rejected) for each step that has another one after its prefix."""
    for prefix, taken in steps.items():
        for step in taken:
            others = [other for other in taken if other[0] != step[0]]
            if others:
                other = others[rng.integers(len(others))]
                yield (prefix, step, other) if step[1] >= other[1] else (prefix, other, step)
