"""Verification: the reward of every rollout, and the verdict on its steps.

In: rollouts and D_syn. Out: `verification.parquet`, one row a rollout in the rollouts' order: problem, sample,
reward, answer, num_steps, num_wrong_facts, num_procedure_errors, spurious_steps. A spurious step is a wrong step in
a rollout whose answer is right. The last three are null for problems in plain language, whose steps nobody has judged.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from data.problems.families import family_of
from data.records import read_problems
from data.rollouts import ROLLOUT_ID, load_rollouts, require_rows
from data.tokens.tokenizer import tokenizer_of
from scaling.config.problems import Problems
from scaling.config.section import parse


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Check every rollout. config: problems; inputs: rollouts, synthetic."""
    settings = parse(Problems, config["problems"])
    tokenizer, family = tokenizer_of(settings, inputs), family_of(settings)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    rollouts = load_rollouts(inputs["rollouts"])
    rows = []
    for problem, sample, tokens in zip(rollouts["problem"], rollouts["sample"], rollouts["tokens"], strict=True):
        check = family.check(settings, synthetic[problem], tokenizer.decode(tokens))
        rows.append(
            {
                "problem": problem,
                "sample": sample,
                "reward": check.reward,
                "answer": check.answer,
                "num_steps": len(check.steps),
                "num_wrong_facts": check.num_wrong_facts,
                "num_procedure_errors": check.num_procedure_errors,
                "spurious_steps": check.spurious_steps,
            }
        )
    judged = ("num_wrong_facts", "num_procedure_errors", "spurious_steps")
    frame = pd.DataFrame(rows).astype(dict.fromkeys(judged, "Int64"))
    frame.to_parquet(out / "verification.parquet")
    positives = frame[frame["reward"] == 1.0]
    numbers = {
        "mean_reward": float(frame["reward"].mean()),
        "problems_without_positive_fraction": float((frame.groupby("problem")["reward"].max() == 0).mean()),
        "problems_without_negative_fraction": float((frame.groupby("problem")["reward"].min() == 1).mean()),
    }
    if positives["spurious_steps"].notna().any():  # the share among no positives, or of unknown steps, is no number
        numbers["spurious_positive_fraction"] = float((positives["spurious_steps"] > 0).mean())
    return numbers


def load_verified(rollouts: Path, verification: Path) -> pd.DataFrame:
    """Rollouts with their verdicts, one row each: the rollouts' columns and the verification's."""
    own_file, verdicts_file = rollouts / "rollouts.parquet", verification / "verification.parquet"
    own, verdicts = load_rollouts(rollouts), pd.read_parquet(verdicts_file)
    require_rows(verdicts, verdicts_file, own, own_file)
    require_rows(own, own_file, verdicts, verdicts_file)
    return own.merge(verdicts, on=ROLLOUT_ID, validate="one_to_one")
