"""Critical steps: how policies continue the same wrong traces, step by step (Setlur et al. 2024, arXiv 2406.14532).

`select_traces` samples test problems from the SFT policy and keeps wrong completions: `synthetic.jsonl`,
`rollouts.parquet` and `verification.parquet`, so that `data.step_values` can value them like any negative. This
happens twice: continuations of the SFT policy locate the first pits, and continuations of the policy in question
measure them. The two share no randomness.

`run` puts both together: `critical_steps.parquet`, one row a step that can be continued (all but the last): problem
(its key), sample, step, q_value of the policy in question, pit (index of the trace's first pit), pit_probability (the
chance that the policy in question writes exactly that step there, from its log-probabilities).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.q_values import first_pit
from data.records import load_problems, write_jsonl
from data.rollout_tables import ROLLOUT_ID, load_step_values, load_verified, require_rows, verdicts
from data.sampling.completions import sample_rollouts
from data.tokens.tokenizer import tokenizer_of
from scaling.config.problems import problems_of
from scaling.model.flops import forward_flops
from scaling.model.policy import policy_of
from scaling.training.batching import sequences
from scaling.training.logps import reference_logps


def select_traces(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Up to `traces` different wrong completions of the first test problems.

    config: problems, rollouts, critical_steps (problems, traces), seed; inputs: policy, problems.
    """
    chosen = load_problems(inputs["problems"], "test")[: config["critical_steps"]["problems"]]
    write_jsonl(out / "synthetic.jsonl", ({"prompt": item.prompt, "answer": item.answer} for item in chosen))
    rollouts, numbers = sample_rollouts(config, inputs, out, chosen)
    verification = verdicts(config, inputs, chosen, rollouts)
    wrong = rollouts[verification["reward"] == 0.0]
    different = wrong[~wrong.assign(words=wrong["tokens"].map(tuple)).duplicated(["problem", "words"])]
    kept = different[different.groupby("problem").cumcount() < config["critical_steps"]["traces"]]
    if kept.empty:
        raise ValueError(
            f"critical_traces: none of {len(rollouts)} completions of {len(chosen)} test problems is wrong, so there is"
            " no wrong trace to continue; raise evaluation.critical_steps.problems, or rollouts.samples_per_problem."
        )
    for name, table in (("rollouts", rollouts), ("verification", verification)):
        table.loc[kept.index].reset_index(drop=True).to_parquet(out / f"{name}.parquet")
    return {**numbers, "num_traces": float(len(kept)), "num_problems": float(kept["problem"].nunique())}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Q and the chance of the pit. config: problems; inputs: policy, traces, pits and values (both step values)."""
    tokenizer = tokenizer_of(problems_of(config), inputs)
    policy = policy_of(inputs, "policy")
    problems = load_problems(inputs["traces"], "synthetic")
    verified = load_verified(inputs["traces"], inputs["traces"])
    pits, values = (load_step_values(inputs[name], verified) for name in ("pits", "values"))
    pits["pit"] = [first_pit(row.q_values, row.prompt_value) for row in pits.itertuples(index=False)]
    pits_file, values_file = (inputs[name] / "step_values.parquet" for name in ("pits", "values"))
    require_rows(pits, pits_file, values, values_file)
    require_rows(values, values_file, pits, pits_file)
    traces = values.merge(pits[[*ROLLOUT_ID, "pit"]], on=ROLLOUT_ID, validate="one_to_one")
    contexts, steps = [], []
    for trace in traces.itertuples(index=False):
        start, end = ([0, *trace.step_ends])[trace.pit : trace.pit + 2]
        contexts.append(tokenizer.encode_prompt(problems[trace.problem].prompt) + trace.tokens[:start])
        steps.append(trace.tokens[start:end])
    rows = sequences(contexts, steps)
    traces["pit_probability"] = np.exp(reference_logps(policy, rows))
    table = pd.DataFrame(
        [
            (problems[trace.problem].key, trace.sample, step, q_value, trace.pit, trace.pit_probability)
            for trace in traces.itertuples(index=False)
            for step, q_value in enumerate(trace.q_values[:-1])
        ],
        columns=["problem", "sample", "step", "q_value", "pit", "pit_probability"],
    )
    table.to_parquet(out / "critical_steps.parquet")
    return {
        "num_traces": float(len(traces)),
        "mean_q_value": float(table["q_value"].mean()),
        "pit_probability": float(traces["pit_probability"].mean()),
        "evaluation_flops": forward_flops(policy.config, rows.lengths.tolist()),
    }
