"""The cost of a stage of each kind, from its config and its ancestors': the functions named in scaling.kinds.

In: a stage. Out: `Cost`, or counts. The FLOPs are estimates: completions are as long as the set's solutions, and
half of all samples are right, from problems that are hard to different degrees.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from scaling.config.policy import lora_of
from scaling.config.problems import problems_of
from scaling.kinds import kind_of, loaded
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.sizes import SMALL_VOCABULARY, ModelConfig
from scaling.pricing.costs import Cost
from scaling.pricing.lengths import expected, expected_steps, nearest_first, setting
from scaling.pricing.teacher_bill import asking_seconds
from scaling.stage import Stage

# Of an exhaustive estimate's work, rounded up: 0.07 to 0.22 of the FLOPs and 0.22 to 0.67 of the seconds, the lower the
# larger M is (benchmarks/results/adaptive.json).
ADAPTIVE_FRACTION = 0.5
UNREPLAYED_FRACTION = 0.6  # the same for a vocabulary too large to replay: what stopping alone leaves


def candidates_tried(stage: Stage, numbers: Mapping[str, float]) -> float:
    """Completions of the base policy; NaN, here and below, where a record does not say."""
    return numbers.get("num_candidates", math.nan) * float(stage.config["solvable"]["samples"])


def solutions_of_teacher(stage: Stage, numbers: Mapping[str, float]) -> float:
    """A chat model's attempts, or the solutions of the family's procedure, rejected ones included."""
    solved = numbers.get("num_problems", math.nan) + numbers.get("num_rejected_solutions", 0.0)
    return numbers.get("num_attempts", solved)


def rollouts_made(stage: Stage, numbers: Mapping[str, float]) -> float:
    return numbers.get("num_rollouts", math.nan)


def rollouts_and_continuations_made(stage: Stage, numbers: Mapping[str, float]) -> float:
    return rollouts_made(stage, numbers) + numbers.get("num_continuations", math.nan)


def continuations_made(stage: Stage, numbers: Mapping[str, float]) -> float:
    """Each prefix has the same number of them, unless the estimate is adaptive."""
    exhaustive = numbers.get("num_prefixes", math.nan) * float(stage.config["step_values"]["rollouts_per_prefix"])
    return numbers.get("num_continuations", exhaustive)


def nothing(stage: Stage) -> Cost:
    """For kinds that neither train nor sample."""
    return Cost()


def teacher(stage: Stage) -> Cost:
    return Cost(request_seconds=asking_seconds(stage))


def pretrain(stage: Stage) -> Cost:
    if "hf" in stage.config["policy"]:
        return Cost()  # an import
    shape, prompt, completion = expected(stage)
    settings = stage.config["pretrain"]  # random params: it holds only the seed
    rows = settings.get("num_updates", 0) * settings.get("batch_size", 0)
    return Cost(training_flops=rows * training_flops(shape, [prompt + completion]))


def evaluation(stage: Stage) -> Cost:
    held_out = problems_of(stage.inputs["problems"].config)
    count = held_out.num_test if stage.config["split"] == "test" else held_out.num_validation
    return completions(stage, count, 1 + stage.config["evaluation"]["samples_per_problem"])


def best_checkpoint(stage: Stage) -> Cost:
    """A greedy completion of each validation problem by each policy of the run."""
    count = problems_of(stage.inputs["problems"].config).num_validation
    return completions(stage, count * stage.inputs["policy"].config["snapshots"])


def solvable(stage: Stage) -> Cost:
    return completions(stage, stage.config["solvable"]["num_candidates"], stage.config["solvable"]["samples"])


def rollouts(stage: Stage) -> Cost:
    return completions(stage, num_problems(stage), stage.config["rollouts"]["samples_per_problem"])


def step_values(stage: Stage) -> Cost:
    shape, prompt, completion = expected(stage)
    prefixes = num_problems(stage) * traces_per_problem(stage) * max(expected_steps(stage) - 1, 0)
    count = stage.config["step_values"]["rollouts_per_prefix"]
    half = completion / 2  # prefixes end anywhere, on average half-way
    fraction = _sampled_fraction(stage.config["step_values"], shape)
    return Cost(
        generation_flops=fraction * prefixes * count * sampling_flops(shape, [prompt + half], [half]),
        shared_flops=fraction * prefixes * (count - 1) * forward_flops(shape, [prompt + half]),
    )


def critical_steps(stage: Stage) -> Cost:
    """A forward pass over each trace, up to the step of its first pit."""
    shape, prompt, completion = expected(stage)
    rows = num_problems(stage) * traces_per_problem(stage.inputs["values"])
    return Cost(generation_flops=rows * forward_flops(shape, [prompt + completion]))


def sft(stage: Stage) -> Cost:
    return fine_tuning(stage, rows_per_problem=1)


def filtered(stage: Stage) -> Cost:
    """A forward pass of the judge over each solution, if there is a judge; counted as training."""
    if "judge" not in stage.inputs:
        return Cost()
    shape, prompt, completion = expected(stage)
    return Cost(training_flops=num_problems(stage) * forward_flops(shape, [prompt + completion]))


def learning(stage: Stage) -> Cost:
    """NLL on the rows that were chosen from the policy's samples, and on D_syn where it is mixed in."""
    (chosen,) = stage.inputs.keys() & {"positives", "good_steps", "weighted_steps"}
    mixed_in = int(stage.config[stage.kind]["include_synthetic"])
    return fine_tuning(stage, mixed_in + rows_per_problem(stage.inputs[chosen]))


def kto(stage: Stage) -> Cost:
    """Training on each row; its mismatched twin is read in each epoch, and both once by the reference policy."""
    shape, prompt, completion = expected(stage)
    count, lengths = num_problems(stage) * rows_per_problem(stage.inputs["labelled"]), [prompt + completion]
    forward, epochs = forward_flops(shape, lengths), stage.config["kto"]["epochs"]
    return Cost(
        training_flops=count
        * (epochs * (training_flops(shape, lengths, lora_of(stage.config)) + forward) + 2 * forward)
    )


def group_pg(stage: Stage) -> Cost:
    """Training on each completion once, after a forward pass of the policy that sampled it and of the reference where
    they are needed; and sampling, with as many attempts to replace groups as there may be."""
    settings = stage.config["group_pg"]
    old, reference = settings["updates_per_iteration"] > 1, settings["kl_weight"] > 0
    passes = (old or (reference and settings["loss"] == "rloo")) + reference
    found = _on_policy(stage, passes)
    return replace(found, generation_flops=found.generation_flops * (1 + settings["dynamic_sampling"]))


def step_pg(stage: Stage) -> Cost:
    """The same, and M continuations after every step but the last of each completion."""
    settings = stage.config["step_pg"]
    found = _on_policy(stage, (settings["updates_per_iteration"] > 1) + (settings["kl_weight"] > 0))
    shape, prompt, completion = expected(stage)
    half = completion / 2  # prefixes end anywhere, on average half-way
    rows = _rows_sampled(stage) * max(expected_steps(stage) - 1, 0) * settings["rollouts_per_prefix"]
    more = rows * sampling_flops(shape, [prompt + half], [half])
    return replace(found, generation_flops=found.generation_flops + more)


def distill(stage: Stage) -> Cost:
    """Sampling, and training on each completion once, after a forward pass of the oracle."""
    found, (_, prompt, completion) = _on_policy(stage, 0), expected(stage)
    reading = _rows_sampled(stage) * forward_flops(setting(stage.inputs["oracle"])[1], [prompt + completion])
    return replace(found, training_flops=found.training_flops + reading)


def training_on_pairs(stage: Stage) -> Cost:
    """Two completions a pair for the epochs of the section named after the stage's kind, and one forward pass of the
    reference policy over them."""
    shape, prompt, completion = expected(stage)
    count, lengths = num_problems(stage) * rows_per_problem(stage.inputs["pairs"]), [prompt + completion]
    epochs = stage.config[stage.kind]["epochs"]
    work = epochs * training_flops(shape, lengths, lora_of(stage.config)) + forward_flops(shape, lengths)
    return Cost(training_flops=2 * count * work)


def _on_policy(stage: Stage, passes: int) -> Cost:
    """Sampling, and training on each completion once. passes: forward passes over it beside those of training."""
    shape, prompt, completion = expected(stage)
    lengths = [prompt + completion]
    training = training_flops(shape, lengths, lora_of(stage.config)) + passes * forward_flops(shape, lengths)
    rows = _rows_sampled(stage)
    return Cost(rows * training, rows * sampling_flops(shape, [prompt], [completion]))


def _rows_sampled(stage: Stage) -> float:
    settings = stage.config[stage.kind]
    groups = settings["iterations"] * settings["updates_per_iteration"] * settings["problems_per_update"]
    return float(groups * settings["samples_per_problem"])


def completions(stage: Stage, prompts: float, samples: int = 1) -> Cost:
    """Completions of a number of prompts, some samples of each, sampled from the beginning."""
    shape, prompt, completion = expected(stage)
    reading = forward_flops(shape, [prompt])
    return Cost(
        generation_flops=prompts * samples * sampling_flops(shape, [prompt], [completion]),
        shared_flops=prompts * (samples - 1) * reading,
    )


def fine_tuning(stage: Stage, rows_per_problem: float) -> Cost:
    """The epochs of the section named after the stage's kind over rows of whole length."""
    shape, prompt, completion = expected(stage)
    rows = num_problems(stage) * rows_per_problem
    work = training_flops(shape, [prompt + completion], lora_of(stage.config))
    return Cost(training_flops=stage.config[stage.kind]["epochs"] * rows * work)


def num_problems(stage: Stage) -> int:
    """How many problems a stage works on, according to its nearest ancestor with problems."""
    for current in nearest_first(stage):
        if (problems := kind_of(current.kind).problems) is not None:
            return int(loaded(problems)(current))
    raise LookupError(f"{stage.name} has no ancestor with problems.")


def rows_per_problem(data: Stage) -> float:
    """The rows that a stage is expected to give a learner for each problem."""
    rows = kind_of(data.kind).rows
    if rows is None:
        raise ValueError(
            f"{data.name}: the record of kind {data.kind!r} names no `rows`, so the cost of learning from it is"
            " unknown."
        )
    return float(loaded(rows)(data))


def problems_of_teacher(stage: Stage) -> int:
    return int(stage.config["data_size"])


def problems_of_traces(stage: Stage) -> int:
    return int(stage.config["critical_steps"]["problems"])


def rows_of_positives(stage: Stage) -> float:
    pooled = stage.config.get("round", 1) if "before" in stage.inputs else 1
    return float(pooled * reached(stage.config["positives"]["max_positives"], samples_per_problem(stage)))


def rows_of_pairs(stage: Stage) -> float:
    return reached(stage.config["pairs"]["pairs_per_problem"], samples_per_problem(stage))


def rows_of_traces(stage: Stage) -> float:
    """One row per trace, for pairs at pits and for good steps."""
    return traces_per_problem(stage.inputs["step_values"])


def rows_of_steps(stage: Stage) -> float:
    """One row a step of each trace."""
    return rows_of_traces(stage) * expected_steps(stage)


def rows_of_labelled(stage: Stage) -> float:
    return 2 * reached(stage.config["labelled"]["completions_per_problem"], samples_per_problem(stage))


def traces_per_problem(step_values: Stage) -> float:
    """The expected number of traces whose steps are valued: of the wrong ones, or of all."""
    limit, samples = float(step_values.config["traces_per_problem"]), samples_per_problem(step_values)
    return reached(limit, samples) if step_values.config["traces"] == "negatives" else min(limit, samples)


def reached(limit: float, samples: int) -> float:
    """How many of a problem's samples are kept, if only right ones, or only wrong ones, count, up to a limit.

    As if a problem were solved with a probability that is uniform between 0 and 1: then samples u are of the kind, u
    uniform, and the mean of min(limit, samples u) is this. Of 11 stored studies pairs have 0.8 to 1.1 times as many.
    """
    limit = min(limit, samples)
    return limit * (1 - limit / (2 * samples))


def samples_per_problem(stage: Stage) -> int:
    """Of the nearest stage that samples solutions."""
    for found in nearest_first(stage):
        if "rollouts" in found.config:
            return int(found.config["rollouts"]["samples_per_problem"])
    raise LookupError(f"{stage.name} has no ancestor that samples solutions.")


def _sampled_fraction(settings: Mapping[str, object], shape: ModelConfig) -> float:
    """Of the continuations of an exhaustive estimate, the share of work that remains."""
    if not settings.get("adaptive"):
        return 1.0
    return ADAPTIVE_FRACTION if shape.vocab_size <= SMALL_VOCABULARY else UNREPLAYED_FRACTION
