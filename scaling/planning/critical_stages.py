"""The stages that measure critical steps: the SFT policy's wrong traces, continued by the policy that a run trained.

In: `Cell` and a seed. Out: a `Stage`, or None where `evaluation.critical_steps` is not set. The traces and their first
pits come from the SFT policy of the same size and seed, so every algorithm continues the same prefixes.
"""

from scaling.config.section import part, plain
from scaling.config.sweep import Cell
from scaling.planning.chain import (
    derived_seed,
    family,
    fixed_problems,
    limit,
    sft_policy,
    slug,
    start_of_adapters,
    tokenizer,
)
from scaling.planning.recipes import trained_policy
from scaling.planning.sampled_stages import sampled
from scaling.stage import Stage

# Uses of a run's seed, beside those of its rounds.
_TRACES, _PITS, _VALUES = 100, 101, 102


def critical_steps(cell: Cell, seed: int) -> Stage | None:
    """Q at every step of the traces, and the chance of their first pits, by the policy of this cell and seed."""
    asked = cell.evaluation.critical_steps
    if asked is None:
        return None
    sft, trained = sft_policy(cell, seed), trained_policy(cell, seed)
    problems, shared = {"problems": family(cell)}, {**tokenizer(cell), **start_of_adapters(cell)}

    config = {
        **problems,
        "rollouts": plain(cell.rollouts, {"policy"}),
        "critical_steps": part(asked, {"problems", "traces"}),
        "seed": derived_seed(seed, _TRACES),
    }
    inputs = {"policy": sft, "problems": fixed_problems(cell), **shared}
    traces = sampled(cell, Stage("critical_traces", config, inputs, slug=slug(cell, seed)))

    def values(policy: Stage, use: int) -> Stage:
        settings = {"rollouts_per_prefix": asked.rollouts_per_prefix, "temperature": cell.step_values.temperature}
        config = {
            **problems,
            "step_values": settings,
            "traces": "negatives",
            "traces_per_problem": asked.traces,
            "seed": derived_seed(seed, use),
            **limit(cell.rollouts),
        }
        inputs = {"synthetic": traces, "rollouts": traces, "verification": traces, "policy": policy, **shared}
        named = f"{slug(cell, seed)}-critical-{policy.kind}"
        return sampled(cell, Stage("step_values", config, inputs, slug=named))

    inputs = {"policy": trained, "traces": traces, "pits": values(sft, _PITS), "values": values(trained, _VALUES)}
    return Stage("critical_steps", problems, {**inputs, **shared}, slug=f"{trained.kind}-{trained.slug}")
