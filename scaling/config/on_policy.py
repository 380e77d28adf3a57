"""The settings of learners that sample while they learn, with their defaults.

In: plain mappings. Out: the frozen settings that the stages in `algorithms` read. All defaults are substitutes: the
papers train models of billions of params. Names are those of TRL where it has them.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.config.policy import Size
from scaling.config.section import Count, Fraction, NonNegative, Positive, Section

PolicyLoss = Literal["grpo", "dr_grpo", "dapo", "rloo", "cispo"]


class OnPolicy(Section):
    """Sampling from the policy in training, judging and updating, again and again."""

    learning_rate: Positive = 3e-4
    iterations: Count = 100  # of sampling, judging and updating
    updates_per_iteration: Count = 1  # each on problems of its own; above 1 the later ones are not quite on-policy
    problems_per_update: Count = 32
    samples_per_problem: Annotated[int, Field(ge=2)] = 8  # the group
    temperature: Positive = 1.0
    max_new_tokens: Count | None = None  # of a completion; null: what the family says
    warmup_fraction: Fraction = 0.05
    schedule: Literal["cosine", "constant"] = "constant"
    weight_decay: NonNegative = 0.0
    max_gradient_norm: Positive = 1.0


class GroupPg(OnPolicy):
    """Policy gradient on groups of completions of one problem: GRPO and its kin, see docs/learners.md."""

    dynamic_sampling: Annotated[int, Field(ge=0, le=20)] = 0  # most attempts to replace groups of equal rewards
    loss: PolicyLoss = "grpo"
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2  # ratios are clipped at 1 - epsilon
    epsilon_high: Positive | None = None  # and at 1 + epsilon_high, or of CISPO at it; null: the paper's for the loss
    kl_weight: NonNegative = 0.0
    scale_rewards: Literal["published", "group", "batch", "none"] = "published"  # what advantages are divided by
    positive_weight: NonNegative = 1.0  # of advantages above 0; 0 learns from negatives only


class StepPg(OnPolicy):
    """Policy gradient on the advantages of steps, by Monte Carlo: VinePPO, or with the outcome's reward PAV."""

    problems_per_update: Count = 8  # a completion costs as many more as its steps have continuations
    rollouts_per_prefix: Count = 5  # M, after every step but the last
    best_of: Count = 4  # K, at most M: the prover is best-of-K of the policy; 1 is the policy itself
    outcome_weight: NonNegative = 1.0  # of the completion's reward against its group's
    step_weight: NonNegative = 3.0  # of the step's advantage: PAV's alpha
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2  # ratios are clipped at 1 - epsilon and 1 + epsilon
    kl_weight: NonNegative = 0.0

    @model_validator(mode="after")
    def _estimable(self) -> "StepPg":
        fewest = min(self.rollouts_per_prefix, self.samples_per_problem)
        if self.best_of > fewest:
            raise ValueError(
                f"best_of is {self.best_of}, more than rollouts_per_prefix = {self.rollouts_per_prefix} or"
                f" samples_per_problem = {self.samples_per_problem}; best-of-K has an unbiased estimate only from at"
                " least K completions of a prefix and of a problem: raise these or lower best_of."
            )
        return self

    @model_validator(mode="after")
    def _learns_from_something(self) -> "StepPg":
        if self.outcome_weight == self.step_weight == 0:
            raise ValueError(
                "outcome_weight and step_weight are both 0, so there is nothing to learn from; raise one of them."
            )
        return self


class Distill(OnPolicy):
    """Distillation from a stronger base policy on the learner's own completions: an oracle, so a ceiling."""

    samples_per_problem: Count = 8  # each learns alone
    teacher_size: Size | None = None  # null: the policy's own
    teacher_updates: Count | None = None  # of the teacher's pretraining; null: as many as the base policy's
