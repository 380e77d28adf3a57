"""What a sweep file may say: the schema with every default, in frozen pydantic models.

In: plain mappings (scaling.sweep_file reads them from YAML). Out: `Sweep`, and `Cell`, the configuration of one
point of its grid. The defaults live here and nowhere else; docs/sweeps.md explains every key. Where the paper
(Setlur et al. 2024, arXiv 2406.14532) does not state a setting, the default is marked as a substitute.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, model_validator

from scaling.problem_config import ModularSum, Problems
from scaling.problem_config import StarGraph as StarGraph
from scaling.section import Count, Fraction, NonNegative, Positive, Section, Seed, Seeds

ALGORITHMS = ("sft", "rft", "dpo", "step_dpo", "step_rft")
Algorithm = Literal["sft", "rft", "dpo", "step_dpo", "step_rft"]
Size = Literal["xxs", "xs", "s", "m", "l"]


class Policy(Section):
    """The architecture and what training starts from."""

    size: Size = "xs"
    base: Literal["pretrained", "random"] = "pretrained"
    hf: Annotated[str, Field(min_length=1)] | None = None  # a Hugging Face checkpoint instead: hub name or path
    revision: Annotated[str, Field(min_length=1)] | None = None  # of the hub's repository

    @model_validator(mode="after")
    def _one_source(self) -> "Policy":
        if self.hf is not None and (self.size, self.base) != ("xs", "pretrained"):
            raise ValueError(
                f"hf is {self.hf!r}, but size is {self.size!r} and base {self.base!r}; a checkpoint has its own size"
                " and params: leave size and base out."
            )
        if self.revision is not None and self.hf is None:
            raise ValueError(f"revision is {self.revision!r} without hf; name the hub's repository in hf.")
        return self


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
    """Training of the base policy on the family's web text; its seed is no axis of the study."""

    num_updates: Count = 6000
    batch_size: Count = 192
    learning_rate: Positive = 3e-3
    warmup_fraction: Fraction = 0.05
    weight_decay: NonNegative = 0.0
    max_gradient_norm: Positive = 1.0
    seed: Seed = 0


class Teacher(Section):
    """The source of synthetic problems and solutions."""

    keep_unverified: bool = False  # keep a solution whose answer does not verify


class Sft(Optimizer):
    """Supervised fine-tuning on the teacher's solutions. Epochs and schedule are substitutes."""

    learning_rate: Positive = 2e-3
    epochs: Count = 5
    batch_size: Count = 64


class Rollouts(Section):
    """Completions sampled from the SFT policy, shared by every algorithm that learns from them."""

    samples_per_problem: Count = 8
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class Rft(Optimizer):
    """Fine-tuning on self-generated positives. Start and mixture are not known from the paper."""

    learning_rate: Positive = 2e-3
    epochs: Count = 5
    batch_size: Count = 64
    max_positives: Count = 4  # per problem, after duplicates are dropped
    keep: Literal["random", "distinct"] = "distinct"  # which ones, when there are more: by edit distance or at random
    start: Literal["base", "sft"] = "base"
    include_synthetic: bool = True  # mix the teacher's solutions in


class Preference(Optimizer):
    """Direct preference optimisation against the SFT policy (Rafailov et al. 2023, arXiv 2305.18290)."""

    learning_rate: Positive = 1e-4
    epochs: Count = 2
    batch_size: Count = 32
    beta: Positive = 0.1
    nll_weight: NonNegative = 0.0  # weight of the chosen completion's NLL; the paper's DPO has none


class Dpo(Preference):
    """Full completions against full completions."""

    pairing: Literal["random", "edit_distance"] = "random"
    pairs_per_problem: Count = 2


class StepValues(Section):
    """Monte Carlo estimates of the chance to be right after a step."""

    rollouts_per_prefix: Count = 4  # M
    best_of: Count = 1  # K of the rollout policy, at most M; the paper's is 5
    negatives_per_problem: Count = 2  # the paper's is 8
    temperature: Positive = 1.0
    adaptive: bool = False  # sample what the first pits of negatives need, not M after every step

    @model_validator(mode="after")
    def _estimable(self) -> "StepValues":
        if self.best_of > self.rollouts_per_prefix:
            raise ValueError(
                f"best_of is {self.best_of}, more than rollouts_per_prefix = {self.rollouts_per_prefix}; best-of-K has"
                " an unbiased estimate only from at least K rollouts: raise rollouts_per_prefix or lower best_of."
            )
        return self


class StepDpo(Preference):
    """DPO on pairs made at the first pit of a negative."""

    pair_mode: Literal["full_vs_prefix", "shared_prefix", "full_vs_full"] = "full_vs_prefix"
    pit_rule: Literal["lowest", "largest_drop"] = "lowest"


class StepRft(Optimizer):
    """NLL on the steps with a positive advantage, whatever the trace's reward."""

    learning_rate: Positive = 2e-3
    epochs: Count = 5
    batch_size: Count = 64
    traces_per_problem: Count = 4
    min_advantage: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0  # a step is kept when its advantage is greater
    start: Literal["base", "sft"] = "base"
    include_synthetic: bool = True


class Evaluation(Section):
    """What is measured on the test problems. Greedy pass@1 always is."""

    samples_per_problem: Annotated[int, Field(ge=0)] = 4  # for pass@k; 0 measures greedy pass@1 only
    pass_at: Annotated[tuple[Count, ...], Field(strict=False)] = (4,)
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _enough_samples(self) -> "Evaluation":
        too_large = [k for k in self.pass_at if k > self.samples_per_problem]
        if too_large and self.samples_per_problem:
            raise ValueError(
                f"pass_at asks for k = {too_large[0]}, but samples_per_problem is {self.samples_per_problem}; the"
                " unbiased estimate needs at least k samples: raise samples_per_problem."
            )
        return self


class Cell(Section):
    """Everything that decides one run's result, apart from its seed."""

    algorithm: Algorithm = "sft"
    data_size: Count = 256  # unique synthetic problems
    problems: Problems = ModularSum()
    policy: Policy = Policy()
    pretrain: Pretrain = Pretrain()
    teacher: Teacher = Teacher()
    sft: Sft = Sft()
    rollouts: Rollouts = Rollouts()
    rft: Rft = Rft()
    dpo: Dpo = Dpo()
    step_values: StepValues = StepValues()
    step_dpo: StepDpo = StepDpo()
    step_rft: StepRft = StepRft()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _steps_have_words(self) -> "Cell":
        if self.policy.hf is not None and self.algorithm in ("step_dpo", "step_rft"):
            raise ValueError(
                f"algorithm is {self.algorithm!r} and policy.hf {self.policy.hf!r}; steps are cut at words of the"
                " family's own vocabulary: use sft, rft or dpo, or an embedded policy."
            )
        return self


class Analysis(Section):
    """The claims to test and how the intervals are made."""

    reference: Algorithm = "sft"
    claims: Mapping[str, float | str] = {}  # algorithm -> a multiplier, or "<=x"
    bootstrap_draws: Annotated[int, Field(ge=200, le=100_000)] = 2000
    seed: Seed = 0


class Select(Section):
    """Settings to choose on validation problems: for each algorithm, candidate values of its section's keys."""

    seeds: Seeds
    sft: Mapping[str, list[object]] = {}
    rft: Mapping[str, list[object]] = {}
    dpo: Mapping[str, list[object]] = {}
    step_dpo: Mapping[str, list[object]] = {}
    step_rft: Mapping[str, list[object]] = {}

    def candidates_of(self, algorithm: str) -> Mapping[str, list[object]]:
        """Key of the algorithm's section -> its candidate values."""
        return getattr(self, algorithm)


class Resources(Section):
    """What one stage of each class asks of Ray: cpu, gpu, or any custom resource such as tpu."""

    train: Mapping[str, Positive] = {"cpu": 1.0}
    rollouts: Mapping[str, Positive] = {"cpu": 1.0}
    host: Mapping[str, Positive] = {"cpu": 1.0}

    @model_validator(mode="after")
    def _satisfiable(self) -> "Resources":
        for section, amounts in self:
            if not amounts:
                raise ValueError(f"{section} asks for nothing; give it an amount, such as {{cpu: 1}}.")
            for name, amount in amounts.items():
                if name in ("gpu", "tpu") and amount > 1 and amount != int(amount):
                    raise ValueError(f"{section}.{name} is {amount}; use a fraction of one or a whole number.")
        return self


class Sweep(Section):
    """One sweep file: the question, what is fixed, the axes, and how to analyse and run it."""

    question: str
    expectation: str | None = None
    fixed: Mapping[str, object] = {}  # the Cell's sections as the file gives them
    grid: tuple[Mapping[str, tuple[object, ...]], ...]  # each maps a dotted key to its values; their union runs
    seeds: Seeds
    select: Select | None = None
    analysis: Analysis = Analysis()
    resources: Resources = Resources()
    store: Annotated[str, Field(min_length=1)] = "results/store"


def parse(schema: object, value: object):
    """A section of the schema from a stage's plain config; the stage's side of what a plan wrote."""
    return TypeAdapter(schema).validate_python(value)
