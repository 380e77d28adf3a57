"""Advantage-filtered RFT: NLL on the steps that raise the chance to be right, of right and wrong traces alike.

In: rollouts with step values. Out: a policy trained on the steps whose advantage is above a threshold; the prompt and
the other steps of a trace are context only (Setlur et al. 2024, arXiv 2406.14532, eq. 3 for the advantage; the
filter is the senior author's, in his lecture on the paper).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from algorithms.sft import fit_chosen
from data.problems.families import family_of
from data.q_values import advantages
from data.records import StepCheck
from data.rollout_tables import read_verified
from scaling.config.section import parse
from scaling.config.training import StepRft


def select_steps(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Mark the steps to learn. Writes good_steps.parquet: problem, prompt, tokens, mask (1 where learned).

    config: problems, good_steps (min_advantage); inputs: synthetic, rollouts, verification, step_values.
    """
    verified = read_verified(config, inputs)
    problems, synthetic, tokenizer = verified.problems, verified.synthetic, verified.tokenizer
    family, rows, num_steps, num_kept = family_of(problems), [], 0, 0
    wrong: list[int | None] = []  # kept steps of each trace that are wrong
    spurious: list[int] = []  # kept steps of each right one that are wrong or not needed
    for trace in verified.traces(inputs["step_values"]).itertuples(index=False):
        gains = advantages(trace.q_values, trace.prompt_value)
        kept = [gain > config["good_steps"]["min_advantage"] for gain in gains]
        num_steps, num_kept = num_steps + len(kept), num_kept + sum(kept)
        steps = family.check(problems, synthetic[trace.problem], tokenizer.decode(trace.tokens)).steps
        wrong.append(num_wrong_kept(kept, steps))
        if trace.reward == 1.0 and wrong[-1] is not None:
            spurious.append(sum(keep and bool(step.spurious) for keep, step in zip(kept, steps, strict=True)))
        if any(kept):
            prompt = verified.prompt(trace.problem)
            rows.append((int(trace.problem), prompt, trace.tokens, step_mask(trace.step_ends, kept)))
    frame = pd.DataFrame(rows, columns=["problem", "prompt", "tokens", "mask"])
    frame.to_parquet(out / "good_steps.parquet")
    numbers = {
        "num_traces": float(len(frame)),
        "kept_steps_fraction": num_kept / num_steps,
        "num_learned_steps": float(num_kept),
        "problems_without_data_fraction": 1.0 - frame["problem"].nunique() / len(synthetic),
    }
    if wrong and None not in wrong:
        numbers["num_wrong_steps"] = float(sum(count or 0 for count in wrong))
        numbers["num_spurious_steps"] = float(sum(spurious))
        numbers["num_spurious_traces"] = float(sum(bool(count) for count in spurious))
    return numbers


def num_wrong_kept(kept: Sequence[bool], steps: Sequence[StepCheck]) -> int | None:
    """How many of the kept steps are wrong; None where the verifier does not judge steps, or cuts others."""
    if len(steps) != len(kept) or any(step.correct is None for step in steps):
        return None
    return sum(keep and not step.correct for keep, step in zip(kept, steps, strict=True))


def step_mask(step_ends: list[int], kept: list[bool]) -> list[float]:
    """One weight a token: 1 in the kept steps, 0 elsewhere. step_ends are cumulative token counts."""
    mask: list[float] = []
    for end, keep in zip(step_ends, kept, strict=True):
        mask += [float(keep)] * (end - len(mask))
    return mask


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """NLL on the marked steps, and on D_syn where `include_synthetic` says so.

    config: problems, step_rft, seed, and lora if adapters are trained; inputs: start, synthetic, good_steps.
    """
    steps = pd.read_parquet(inputs["good_steps"] / "good_steps.parquet")
    nothing = (
        "step_rft: no step has an advantage above min_advantage and include_synthetic is false; lower"
        f" step_rft.min_advantage (read from {inputs['good_steps'].name}) or include D_syn."
    )
    return fit_chosen(steps, parse(StepRft, config["step_rft"]), config, inputs, out, nothing, packs=True)
