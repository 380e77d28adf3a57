"""The settings of learners that sample while they learn, with their defaults.

In: plain mappings. Out: the frozen settings that the stages in `algorithms` read. All defaults are substitutes: the
papers train models of billions of params. Names are those of TRL where it has them.
"""

from typing import Annotated, Literal

from pydantic import Field

from scaling.config.section import Count, Fraction, NonNegative, Positive, Section

PolicyLoss = Literal["grpo", "dr_grpo", "dapo", "rloo", "cispo"]


class GroupPg(Section):
    """Policy gradient on groups of completions of one problem: GRPO and its kin, see docs/learners.md."""

    learning_rate: Positive = 3e-4
    iterations: Count = 100  # of sampling, judging and updating
    updates_per_iteration: Count = 1  # each on problems of its own; above 1 the later ones are not quite on-policy
    problems_per_update: Count = 32
    samples_per_problem: Annotated[int, Field(ge=2)] = 8  # the group
    temperature: Positive = 1.0
    max_new_tokens: Count | None = None  # of a completion; null: what the family says
    dynamic_sampling: Annotated[int, Field(ge=0, le=20)] = 0  # most attempts to replace groups of equal rewards
    loss: PolicyLoss = "grpo"
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2  # ratios are clipped at 1 - epsilon
    epsilon_high: Positive | None = None  # and at 1 + epsilon_high, or of CISPO at it; null: the paper's for the loss
    kl_weight: NonNegative = 0.0
    scale_rewards: Literal["published", "group", "batch", "none"] = "published"  # what advantages are divided by
    positive_weight: NonNegative = 1.0  # of advantages above 0; 0 learns from negatives only
    warmup_fraction: Fraction = 0.05
    schedule: Literal["cosine", "constant"] = "constant"
    weight_decay: NonNegative = 0.0
    max_gradient_norm: Positive = 1.0
