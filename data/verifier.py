"""Verification: the reward of every rollout, and the verdict on its steps.

In: rollouts and D_syn. Out: `verification.parquet`, one row a rollout in the rollouts' order: problem, sample,
reward, answer, num_steps, num_wrong_facts, num_procedure_errors, spurious_steps, and right where the verifier is not
exact. A spurious step is a wrong step in a rollout that is rewarded. The counts of wrong steps are null for problems in
plain language, whose steps nobody has judged.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.records import read_problems
from data.rollout_tables import load_rollouts, verdicts


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Check every rollout.

    config: problems, and verifier where it is not exact; inputs: rollouts, synthetic, and tokenizer if imported.
    """
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    table = verdicts(config, inputs, synthetic, load_rollouts(inputs["rollouts"]))
    table.to_parquet(out / "verification.parquet")
    positives = table[table["reward"] == 1.0]
    numbers = {
        "mean_reward": float(table["reward"].mean()),
        "problems_without_positive_fraction": float((table.groupby("problem")["reward"].max() == 0).mean()),
        "problems_without_negative_fraction": float((table.groupby("problem")["reward"].min() == 1).mean()),
    }
    if positives["spurious_steps"].notna().any():  # the share among no positives, or of unknown steps, is not a number
        numbers["spurious_positive_fraction"] = float((positives["spurious_steps"] > 0).mean())
    if "right" in table:
        numbers["false_positive_fraction"] = float((~positives["right"]).mean()) if len(positives) else 0.0
    return numbers
