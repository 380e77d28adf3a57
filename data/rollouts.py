"""Rollouts: completions of D_syn's problems, sampled from the SFT policy.

In: a policy and D_syn. Out: `rollouts.parquet`, one row a rollout: problem (row of D_syn), sample, tokens, logp
(at temperature 1). Each rollout's randomness is keyed by (seed, problem, sample): it is the same in any batch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.records import read_problems
from data.sampling.completions import sample_rollouts


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Sample. config: problems, rollouts, seed; inputs: policy, synthetic, and tokenizer if imported."""
    table, numbers = sample_rollouts(config, inputs, out, read_problems(inputs["synthetic"] / "synthetic.jsonl"))
    table.to_parquet(out / "rollouts.parquet")
    return numbers
