"""How policies are trained: the settings of pretraining and of every algorithm, with their defaults.

In: plain mappings. Out: the frozen settings that the stages in `algorithms` read. Where the paper (Setlur et al. 2024,
arXiv 2406.14532) does not state a setting, the default is marked as a substitute.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.config.section import LATER, Count, Fraction, NonNegative, Positive, Section, Seed


class Optimizer(Section):
    """AdamW with linear warm-up and a cosine or constant schedule; shared by every training stage."""

    learning_rate: Positive
    epochs: Count
    batch_size: Count
    warmup_fraction: Fraction = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: NonNegative = 0.0
    max_gradient_norm: Positive = 1.0


class Pretrain(Section):
    """Training of the base policy on the family's web text; its seed is not an axis of the study."""

    num_updates: Count = 6000
    batch_size: Count = 192
    learning_rate: Positive = 3e-3
    warmup_fraction: Fraction = 0.05
    schedule: ClassVar[Literal["cosine"]] = "cosine"  # no setting
    weight_decay: NonNegative = 0.0
    max_gradient_norm: Positive = 1.0
    seed: Seed = 0


class FineTuning(Optimizer):
    """NLL on solutions. Epochs and schedule are substitutes."""

    learning_rate: Positive = 2e-3
    epochs: Count = 5
    batch_size: Count = 64


class Sft(FineTuning):
    """Supervised fine-tuning on the teacher's solutions."""


class FilteredSft(FineTuning):
    """Supervised fine-tuning on those of the teacher's solutions that a filter keeps."""

    keep: Literal["right_steps", "small_loss"] = "right_steps"  # small_loss: under the SFT policy
    keep_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the solutions, by small_loss


class Rft(FineTuning):
    """Fine-tuning on self-generated positives. Start and mixture are not known from the paper."""

    max_positives: Count = 4  # per problem, after duplicates are dropped
    keep: Literal["random", "low_value", "high_value", "distinct"] = "distinct"  # which ones, when there are more
    start: Literal["base", "sft"] = "base"
    include_synthetic: bool = True  # mix the teacher's solutions in
    pool_rounds: bool = False  # after several rounds, train on the positives of all of them


class Preference(Optimizer):
    """Direct preference optimisation against the SFT policy (Rafailov et al. 2023, arXiv 2305.18290), or its kin."""

    learning_rate: Positive = 1e-4
    epochs: Count = 2
    batch_size: Count = 32
    beta: Positive = 0.1
    nll_weight: NonNegative = 0.0  # weight of the chosen completion's NLL; the paper's DPO has none
    loss: Annotated[Literal["sigmoid", "ipo", "simpo"], LATER] = "sigmoid"
    per_token: Annotated[bool, LATER] = False  # divide log-ratios by the completion's length; SimPO always does
    label_smoothing: Annotated[float, Field(ge=0.0, le=0.5), LATER] = 0.0  # chance that a pair is the wrong way round
    simpo_margin: Annotated[NonNegative, LATER] = 0.0  # gamma

    @model_validator(mode="after")
    def _margin_has_its_loss(self) -> "Preference":
        if self.simpo_margin and self.loss != "simpo":
            raise ValueError(
                f"simpo_margin is {self.simpo_margin:g}, but only SimPO has one and loss is {self.loss!r}; set loss:"
                " simpo, or leave the margin out."
            )
        return self


class Positives(Section):
    """Which completions a negative may be compared with."""

    teacher_positives: Annotated[bool, LATER] = True  # offer the teacher's solution beside the policy's own completions


class Pairing(Positives):
    """How full completions are paired with each other."""

    pairing: Literal["random", "edit_distance"] = "random"
    pairs_per_problem: Count = 2


class Dpo(Pairing, Preference):
    """Full completions against full completions."""


class StepDpo(Positives, Preference):
    """DPO on pairs made at the first pit of a negative."""

    pair_mode: Literal["full_vs_prefix", "shared_prefix", "full_vs_full"] = "full_vs_prefix"
    pit_rule: Literal["lowest", "largest_drop"] = "lowest"
    chosen: Annotated[Literal["random", "highest_value"], LATER] = "random"  # which continuation in shared_prefix
    labels: Annotated[Literal["hard", "advantage"], LATER] = "hard"
    label_scale: Annotated[Positive, LATER] = 1.0  # of advantages, in soft labels
    traces_per_problem: Annotated[Count, LATER] = 4  # whose steps are compared with soft labels

    @model_validator(mode="after")
    def _labels_have_a_shared_prefix(self) -> "StepDpo":
        if self.labels == "advantage" and (self.pair_mode != "shared_prefix" or self.chosen != "random"):
            raise ValueError(
                "labels is 'advantage', which compares any two steps after the same prefix, but pair_mode is"
                f" {self.pair_mode!r} and chosen {self.chosen!r}; set pair_mode: shared_prefix and leave chosen out."
            )
        return self

    @model_validator(mode="after")
    def _continuations_are_compared(self) -> "StepDpo":
        if self.chosen == "highest_value" and self.pair_mode != "shared_prefix":
            raise ValueError(
                "chosen is 'highest_value', which is one among continuations of the steps before the pit, but pair_mode"
                f" is {self.pair_mode!r}, which compares whole completions; set pair_mode: shared_prefix."
            )
        return self


class StepRft(FineTuning):
    """NLL on the steps with a positive advantage, of right and wrong traces alike."""

    traces_per_problem: Count = 4
    min_advantage: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0  # a step is kept when its advantage is greater
    start: Literal["base", "sft"] = "base"
    include_synthetic: bool = True


class Awr(Optimizer):
    """NLL on every step of right and wrong traces, weighted by exp(advantage / beta). All defaults are substitutes."""

    learning_rate: Positive = 5e-4
    epochs: Count = 2
    batch_size: Count = 64
    beta: Positive = 0.5
    max_weight: Positive = 20.0  # as in Peng et al. 2019, arXiv 1910.00177
    traces_per_problem: Count = 4
    start: Literal["base", "sft"] = "sft"
    include_synthetic: bool = False


class Unpaired(Optimizer):
    """Kahneman-Tversky optimisation against the SFT policy (Ethayarajh et al. 2024, arXiv 2402.01306)."""

    learning_rate: Positive = 1e-4
    epochs: Count = 2
    batch_size: Count = 32
    beta: Positive = 0.1
    desirable_weight: Positive = 1.0
    undesirable_weight: Positive = 1.0


class Kto(Positives, Unpaired):
    """Whole completions, right ones and wrong ones."""

    completions_per_problem: Count = 2  # of each label


class KtoByStep(Unpaired):
    """Single steps, labelled by the sign of their advantage."""

    traces_per_problem: Count = 4
