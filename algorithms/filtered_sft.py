"""SFT on a part of D_syn: the solutions whose steps are right, or those that an SFT policy finds likeliest.

In: the teacher's problems and solutions (D_syn), and for `small_loss` the SFT policy trained on all of them. Out: the
kept ones, on which the stage of SFT then trains from the base policy. Two controls for a flawed teacher: `right_steps`
asks the family's judge of steps, an oracle; `small_loss` asks nobody. It keeps solutions of small loss, since a
policy learns what most solutions agree on before it learns the exceptions (Han et al. 2018, arXiv 1804.06872).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.sft import synthetic_pairs
from data.problems.families import family_of
from data.records import Problem, read_jsonl, read_problems, write_jsonl
from scaling.config.problems import Problems, problems_of
from scaling.model.flops import forward_flops
from scaling.model.policy import policy_of
from scaling.training.batching import sequences
from scaling.training.logps import reference_logps


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Write the kept rows of synthetic.jsonl as they are.

    config: problems, filter (keep, keep_fraction); inputs: synthetic, tokenizer if imported, and for small_loss judge.
    Raises ValueError where no solution is kept, or where the family judges no steps.
    """
    problems, settings = problems_of(config), config["filter"]
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    if settings["keep"] == "right_steps":
        kept = right_steps(problems, synthetic)
        read = {}
    else:
        losses, flops = judged(config, inputs)
        kept, read = smallest(losses, settings["keep_fraction"]), {"training_flops": flops}
    if not kept.any():
        raise ValueError("filtered_sft: no solution is kept; raise data_size or filtered_sft.keep_fraction.")
    rows = read_jsonl(inputs["synthetic"] / "synthetic.jsonl")
    write_jsonl(out / "synthetic.jsonl", [row for row, keep in zip(rows, kept, strict=True) if keep])
    return {"num_problems": float(kept.sum()), "kept_fraction": float(kept.mean()), **read}


def right_steps(problems: Problems, synthetic: Sequence[Problem]) -> np.ndarray:
    """Whether every step of each solution is right, bool [N]."""
    family = family_of(problems)
    checks = [family.check(problems, problem, str(problem.solution)) for problem in synthetic]
    if not all(check.steps_are_judged for check in checks):
        raise ValueError(
            "filtered_sft.keep is 'right_steps', but steps in plain language are not judged; use small_loss."
        )
    return np.array([check.reward == 1.0 and check.wrong_steps == 0 for check in checks])


def judged(config: Mapping[str, Any], inputs: Mapping[str, Path]) -> tuple[np.ndarray, float]:
    """The judge's mean negative log-likelihood of each solution's tokens, in nats [N], and the FLOPs of reading."""
    rows, judge = sequences(*synthetic_pairs(config, inputs)), policy_of(inputs, "judge")
    losses = np.asarray(-reference_logps(judge, rows) / rows.mask.sum(axis=1))
    return losses, forward_flops(judge.config, rows.lengths.tolist())


def smallest(losses: np.ndarray, fraction: float) -> np.ndarray:
    """The smallest losses, so many that they are at least this fraction of all; of equal ones the first, bool [N]."""
    kept = np.zeros(len(losses), bool)
    number = math.ceil(round(fraction * len(losses), 6))  # 0.55 of 100 is 55, whatever 0.55 * 100 is
    kept[np.argsort(losses, kind="stable")[:number]] = True
    return kept
