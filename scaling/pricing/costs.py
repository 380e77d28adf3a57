"""What a plan will cost, before anything runs: FLOPs from the configs, seconds from FLOPs.

In: a stage, and how many FLOPs a second stages of its kind have reached in this store. Out: `Cost`. The FLOPs are
upper estimates: every completion as long as `max_new_tokens` or, without it, the family allows, every problem with as
many positives, negatives and steps as the config admits. Records hold what a stage really took.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from data.problems.families import family_of
from scaling.config.policy import lora_of
from scaling.config.problems import ModularSum, Problems, StarGraph
from scaling.config.section import parse
from scaling.config.text_problems import TextProblems
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.sizes import SMALL_VOCABULARY, ModelConfig, model_config
from scaling.planning.explain import ConfigError
from scaling.planning.sampled_stages import is_on_server
from scaling.pretrained.hf_config import imported_shape
from scaling.pretrained.shapes import known_shape
from scaling.pricing.teacher_bill import added_problems, asking_seconds
from scaling.stage import Stage

# FLOPs a second of one worker on one core of a two-core machine (LOG.md, 2026-11-24), used until the store holds a
# record of the kind.
DEFAULT_RATES: Mapping[str, float] = {"training": 2.0e10, "generation": 2.0e10}
# Of an exhaustive estimate's work, rounded up: 0.07 to 0.22 of the FLOPs and 0.22 to 0.67 of the seconds, the lower the
# larger M is (benchmarks/results/adaptive.json).
ADAPTIVE_FRACTION = 0.5
UNREPLAYED_FRACTION = 0.6  # the same for a vocabulary too large to replay: what stopping alone leaves
# A word is one token of its family's vocabulary; of a checkpoint's, as many as a two-digit number has with its blank.
TOKENS_PER_WORD = 3
# Stages that neither train nor sample.
FREE = frozenset(
    ("problem_source", "problems", "teacher", "verification", "positives", "pairs", "step_pairs", "good_steps")
)
OVERHEAD_SECONDS = 0.3  # of reading, checking and writing, for each stage


@dataclass(frozen=True)
class Cost:
    """Estimated work of one stage."""

    training_flops: float = 0.0
    generation_flops: float = 0.0
    request_seconds: float = 0.0  # of waiting for a chat model
    server_flops: float = 0.0  # of generation by the server that `sampler` names, whose time is not ours

    @property
    def flops(self) -> float:
        """Of this project's workers."""
        return self.training_flops + self.generation_flops

    def seconds(self, rate: float | None = None) -> float:
        """Wall seconds of one worker; rate in FLOPs a second, from records of the same kind where there are some."""
        if rate is not None:
            return OVERHEAD_SECONDS + self.flops / rate
        return (
            OVERHEAD_SECONDS
            + self.request_seconds
            + self.training_flops / DEFAULT_RATES["training"]
            + self.generation_flops / DEFAULT_RATES["generation"]
        )


def cost(stage: Stage) -> Cost:
    """Estimate the FLOPs of a stage from its config and its ancestors'."""
    work = _work(stage)
    if not is_on_server(stage):
        return work
    return replace(work, generation_flops=0.0, server_flops=work.generation_flops)


def costs(stages: Iterable[Stage], stored: Iterable[Stage] = ()) -> dict[Stage, Cost]:
    """The same of stages that run in one plan, where what a smaller size asks a chat model for is asked for once.

    stored: stages of the plan that ran before.
    """
    stages = tuple(stages)
    added = added_problems(stages, stored)
    found = {stage: cost(stage) for stage in stages}
    return found | {
        stage: replace(found[stage], request_seconds=asking_seconds(stage, count)) for stage, count in added.items()
    }


def longest(stage: Stage) -> tuple[ModelConfig, int, int]:
    """The shape of a stage's policy, and the tokens of the longest prompt and completion it trains on or samples."""
    problems, shape, tokens = _setting(stage, _ancestor(stage, "pretrain"))
    family = family_of(problems)
    prompt = tokens * family.max_prompt_words(problems) + 1
    solution = tokens * family.max_completion_words(problems) + 1
    if stage.kind == "solvable":  # each shot is another problem and its own solution
        prompt += stage.config["solvable"]["shots"] * (prompt + solution)
    return shape, prompt, _completion_tokens(stage, solution)


def observed_rates(stages: Iterable[Stage], records: Iterable[Mapping]) -> dict[str, float]:
    """FLOPs estimated a second taken, by kind, over stored stages; estimates and times of the same stages."""
    flops: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for stage, record in zip(stages, records, strict=True):
        estimate = cost(stage).flops
        if estimate:
            flops[stage.kind] = flops.get(stage.kind, 0.0) + estimate
            seconds[stage.kind] = seconds.get(stage.kind, 0.0) + max(record["wall_seconds"] - OVERHEAD_SECONDS, 1e-3)
    return {kind: flops[kind] / seconds[kind] for kind in flops}


def certain_limit(stage: Stage) -> int | None:
    """The most new tokens of a stage that samples from a checkpoint.

    None where the checkpoint's tokenizer decides, and for embedded policies, which have no limit of their own.
    """
    pretrain = _ancestor(stage, "pretrain")
    if "hf" not in pretrain.config["policy"]:
        return None
    problems, _, _ = _setting(stage, pretrain)
    settings = stage.config["rollouts" if stage.kind == "critical_traces" else stage.kind]
    is_set = "max_new_tokens" in (stage.config if stage.kind == "step_values" else settings)
    counts_tokens = not family_of(problems).vocabulary(problems)  # of families with words it is the tokenizer's to say
    return longest(stage)[2] if is_set or counts_tokens else None


def _work(stage: Stage) -> Cost:
    """What cost estimates, whoever samples."""
    if stage.kind == "teacher":
        return Cost(request_seconds=asking_seconds(stage))
    if stage.kind in FREE:
        return Cost()
    pretrain = _ancestor(stage, "pretrain")
    if stage is pretrain and "hf" in stage.config["policy"]:
        return Cost()  # an import
    problems, _, _ = _setting(stage, pretrain)
    family = family_of(problems)
    shape, prompt, completion = longest(stage)
    config = stage.config
    if stage.kind == "pretrain":
        updates = config["pretrain"].get("num_updates", 0)
        rows = updates * config["pretrain"].get("batch_size", 0)
        return Cost(training_flops=rows * training_flops(shape, [prompt + completion]))
    if stage.kind == "evaluation":
        held_out = parse(Problems, stage.inputs["problems"].config["problems"])
        count = held_out.num_test if config["split"] == "test" else held_out.num_validation
        rows = count * (1 + config["evaluation"]["samples_per_problem"])
        return Cost(generation_flops=rows * sampling_flops(shape, [prompt], [completion]))
    if stage.kind == "solvable":
        rows = config["solvable"]["num_candidates"] * config["solvable"]["samples"]
        return Cost(generation_flops=rows * sampling_flops(shape, [prompt], [completion]))
    size = _num_problems(stage)
    if stage.kind == "critical_steps":  # a forward pass over each trace, up to the step of its first pit
        rows = size * _traces_per_problem(stage.inputs["values"])
        return Cost(generation_flops=rows * forward_flops(shape, [prompt + completion]))
    if stage.kind in ("rollouts", "critical_traces"):
        rows = size * config["rollouts"]["samples_per_problem"]
        return Cost(generation_flops=rows * sampling_flops(shape, [prompt], [completion]))
    if stage.kind == "step_values":
        prefixes = size * _traces_per_problem(stage) * (family.max_steps(problems) - 1)
        rows = prefixes * config["step_values"]["rollouts_per_prefix"]
        half = completion / 2  # prefixes end anywhere, on average half-way
        fraction = _sampled_fraction(config["step_values"], shape)
        return Cost(generation_flops=fraction * rows * sampling_flops(shape, [prompt + half], [half]))
    if stage.kind == "dpo":
        pairs = size * _pairs_per_problem(stage.inputs["pairs"])
        lengths = [prompt + completion]
        epochs = config["dpo"]["epochs"]
        work = epochs * training_flops(shape, lengths, lora_of(config)) + forward_flops(shape, lengths)
        return Cost(training_flops=2 * pairs * work)
    rows = size * _rows_per_problem(stage)
    work = training_flops(shape, [prompt + completion], lora_of(config))
    return Cost(training_flops=config[stage.kind]["epochs"] * rows * work)


def _num_problems(stage: Stage) -> int:
    """How many problems a stage works on: those of the traces whose critical steps are measured, or all of D_syn."""
    traces = [item for item in (stage, *stage.inputs.values()) if item.kind == "critical_traces"]
    if traces:
        return traces[0].config["critical_steps"]["problems"]
    return _ancestor(stage, "teacher").config["data_size"]


def _rows_per_problem(stage: Stage) -> int:
    if stage.kind == "sft":
        return 1
    mixed = int(stage.config[stage.kind]["include_synthetic"])
    if stage.kind == "rft":
        positives = stage.inputs["positives"]
        pooled = positives.config.get("round", 1) if "before" in positives.inputs else 1
        return mixed + pooled * positives.config["positives"]["max_positives"]
    return mixed + _traces_per_problem(stage.inputs["good_steps"].inputs["step_values"])


def _pairs_per_problem(pairs: Stage) -> int:
    if pairs.kind == "pairs":
        return pairs.config["pairs"]["pairs_per_problem"]
    return _traces_per_problem(pairs.inputs["step_values"])


def _traces_per_problem(step_values: Stage) -> int:
    """As many as are asked for, of the rollouts that there are."""
    sampled = step_values.inputs["rollouts"].config["rollouts"]["samples_per_problem"]
    return min(step_values.config["traces_per_problem"], sampled)


def _completion_tokens(stage: Stage, family_tokens: int) -> int:
    """The longest completion that a stage samples or learns from; the teacher's are as long as the family allows."""
    if stage.kind == "critical_traces":
        return stage.config["rollouts"].get("max_new_tokens", family_tokens)
    if stage.kind in ("rollouts", "evaluation", "solvable"):
        return stage.config[stage.kind].get("max_new_tokens", family_tokens)
    if stage.kind == "step_values":
        return stage.config.get("max_new_tokens", family_tokens)
    if stage.kind == "critical_steps":
        return _completion_tokens(stage.inputs["traces"], family_tokens)
    try:
        rollouts = _ancestor(stage, "rollouts")
    except LookupError:
        return family_tokens
    return max(family_tokens, _completion_tokens(rollouts, family_tokens))


def _sampled_fraction(step_values: Mapping, shape: ModelConfig) -> float:
    """Of the continuations of an exhaustive estimate, the share of work that remains."""
    if not step_values.get("adaptive"):
        return 1.0
    return ADAPTIVE_FRACTION if shape.vocab_size <= SMALL_VOCABULARY else UNREPLAYED_FRACTION


def _setting(stage: Stage, pretrain: Stage) -> tuple[ModularSum | StarGraph | TextProblems, ModelConfig, int]:
    """The family's config, the policy's shape, and how many tokens a word has."""
    policy = pretrain.config["policy"]
    if "hf" in policy:
        told = stage if "problems" in stage.config else _ancestor(stage, "teacher")
        problems = parse(Problems, told.config["problems"])
        tokens = TOKENS_PER_WORD if family_of(problems).vocabulary(problems) else 1  # without words it counts tokens
        name = pretrain.execution.get("checkpoint", policy["hf"])
        shape = replace(_imported(name, policy["revision"]), bfloat16=_is_bfloat16(policy))
        return problems, shape, tokens
    problems = parse(Problems, pretrain.config["problems"])
    words = len(family_of(problems).vocabulary(problems))
    shape = model_config(policy["size"], words + 3)  # and the three specials
    return problems, replace(shape, bfloat16=_is_bfloat16(policy)), 1


def _is_bfloat16(policy: Mapping[str, object]) -> bool:
    return policy.get("compute_dtype") == "bfloat16"


@cache  # a plan asks for it at every stage
def _imported(hf: str, revision: str | None) -> ModelConfig:
    try:
        return known_shape(hf) or imported_shape(hf, revision)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"policy.hf: {error}") from error


def _ancestor(stage: Stage, kind: str) -> Stage:
    """The nearest ancestor of a kind, the stage itself included."""
    if stage.kind == kind:
        return stage
    for parent in stage.inputs.values():
        if parent.kind == kind:
            return parent
    for parent in stage.inputs.values():
        try:
            return _ancestor(parent, kind)
        except LookupError:
            continue
    raise LookupError(f"{stage.name} has no ancestor of kind {kind!r}.")
