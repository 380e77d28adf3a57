"""The stages that measure critical steps: the SFT policy's wrong traces, continued by the policy that a run trained.

In: `Cell` and a seed. Out: a `Stage`, or None where `evaluation.critical_steps` is not set. The traces and their first
pits come from the SFT policy of the same size and seed, so every algorithm continues the same prefixes.
"""

from scaling import recipes
from scaling.config import Cell
from scaling.sampled_stages import sampled
from scaling.stage import Stage

# Uses of a run's seed, beside those of its rounds.
_TRACES, _PITS, _VALUES = 100, 101, 102


def critical_steps(cell: Cell, seed: int) -> Stage | None:
    """Q at every step of the traces, and the chance of their first pits, by the policy of this cell and seed."""
    asked = cell.evaluation.critical_steps
    if asked is None:
        return None
    sft, trained = recipes.sft_policy(cell, seed), recipes.trained_policy(cell, seed)
    family = {"problems": sft.config["problems"]}
    shared = {name: stage for name, stage in sft.inputs.items() if name == "tokenizer"}
    if cell.policy.lora is not None:
        shared["base"] = recipes.base_policy(cell)  # what adapters are merged into
    slug = f"d{cell.data_size}-s{seed}"

    config = {
        **family,
        "rollouts": cell.rollouts.model_dump(mode="json"),
        "critical_steps": {"problems": asked.problems, "traces": asked.traces},
        "seed": recipes.derived_seed(seed, _TRACES),
    }
    inputs = {"policy": sft, "problems": recipes.fixed_problems(cell), **shared}
    traces = sampled(cell, Stage("critical_traces", config, inputs, slug=slug))

    def values(policy: Stage, use: int) -> Stage:
        settings = {"rollouts_per_prefix": asked.rollouts_per_prefix, "temperature": cell.step_values.temperature}
        config = {
            **family,
            "step_values": settings,
            "traces": "negatives",
            "traces_per_problem": asked.traces,
            "seed": recipes.derived_seed(seed, use),
        }
        if cell.rollouts.max_new_tokens is not None:
            config["max_new_tokens"] = cell.rollouts.max_new_tokens
        inputs = {"synthetic": traces, "rollouts": traces, "verification": traces, "policy": policy, **shared}
        return sampled(cell, Stage("step_values", config, inputs, slug=f"{slug}-critical-{policy.kind}"))

    inputs = {"policy": trained, "traces": traces, "pits": values(sft, _PITS), "values": values(trained, _VALUES)}
    return Stage("critical_steps", family, {**inputs, **shared}, slug=f"{trained.kind}-{trained.slug}")
