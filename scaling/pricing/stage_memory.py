"""Which stage of a plan needs most memory on a device, and what time its work takes on stated hardware.

In: stages, their costs, and the sections `resources` and `memory` of their sweep. Out: bytes by purpose for each stage
that has a policy here, and the lines that `--plan` prints. Lengths are the longest that the family allows, as in
scaling.pricing.costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.config.memory import Memory
from scaling.config.policy import lora_of
from scaling.config.resources import Hardware, Resources
from scaling.engine.eta import spoken
from scaling.model.memory_need import (
    ACCELERATOR_TOKENS,
    CPU_TOKENS,
    PREFILL_PROMPTS,
    SAMPLER_ROWS,
    SCORING_ROWS,
    padded,
    rows_on_device,
    sampling_memory,
    scoring_memory,
    training_memory,
)
from scaling.pricing.costs import Cost, cost, longest
from scaling.pricing.teacher_bill import REPLY_SECONDS
from scaling.stage import RESOURCE_CLASSES, Stage

GIB = 2.0**30
NUM_PARTS = 4  # of the largest stage, named in a line


@dataclass(frozen=True)
class Need:
    """What one device needs for a stage."""

    stage: Stage
    parts: dict[str, float]  # purpose -> bytes

    @property
    def gib(self) -> float:
        return sum(self.parts.values()) / GIB


def need(stage: Stage, resources: Resources, memory: Memory) -> Need | None:
    """The memory of a stage on each of its devices; None for a stage that computes nothing with a policy here."""
    kind = RESOURCE_CLASSES.get(stage.kind, "host")
    if kind == "host" or cost(stage).flops == 0:
        return None
    shape, prompt, completion = longest(stage)
    axes = resources.meshes[kind]
    ways = axes["data"] * axes["fsdp"]
    limit = memory.micro_batch_tokens or (ACCELERATOR_TOKENS if _is_accelerated(resources, kind) else CPU_TOKENS)
    if stage.kind == "critical_steps":  # it reads traces and samples nothing
        length = padded(prompt + completion)
        return Need(stage, scoring_memory(shape, axes, rows_on_device(length, -(-SCORING_ROWS // ways), limit), length))
    if kind == "rollouts":
        if stage.kind == "step_values":  # prefixes end anywhere, on average half-way
            prompt, completion = prompt + completion // 2, completion - completion // 2
        rows, prompts = -(-SAMPLER_ROWS // ways), -(-_prompts_in_a_chunk(stage) // ways)
        return Need(stage, sampling_memory(shape, axes, rows, prompts, padded(prompt), padded(completion)))
    sequences = 2 if stage.kind == "dpo" else 1  # in a row
    length = padded(prompt + completion)
    rows = sequences * rows_on_device(sequences * length, -(-stage.config[stage.kind]["batch_size"] // ways), limit)
    remat = memory.remat == "layers"
    return Need(stage, training_memory(shape, axes, rows, length, lora_of(stage.config), remat))


def memory_lines(stages: Sequence[Stage], resources: Resources, memory: Memory) -> list[str]:
    """For each class of stages with a policy, the stage that needs most of a device, and whether that is there."""
    needs = [found for stage in stages if (found := need(stage, resources, memory)) is not None]
    lines = []
    for kind in ("train", "rollouts"):
        of_kind = [found for found in needs if RESOURCE_CLASSES[found.stage.kind] == kind]
        if not of_kind:
            continue
        largest = max(of_kind, key=lambda found: found.gib)
        devices = getattr(resources.mesh, kind).num_devices
        parts = sorted(largest.parts.items(), key=lambda part: -part[1])[:NUM_PARTS]
        named = ", ".join(f"{name} {_spoken_bytes(size)}" for name, size in parts if size)
        on = "1 device" if devices == 1 else f"each of {devices} devices"
        lines.append(
            f"  {kind}: {_spoken_bytes(largest.gib * GIB)} on {on}, for {largest.stage.name} ({named})"
            f"{_verdict(largest, resources.hardware)}"
        )
    return ["Memory predicted, largest stage of a class:", *lines] if lines else []


def time_lines(work: Sequence[Cost], hardware: Hardware) -> list[str]:
    """How long the FLOPs take on the hardware, with the utilisation that is assumed; and apart from it, the waiting."""
    peak = hardware.num_devices * hardware.flops_per_second_per_device
    training, generation = sum(item.training_flops for item in work), sum(item.generation_flops for item in work)
    seconds = sum(seconds_on(item, hardware) for item in work)
    lines = [
        f"On {hardware.name}: {training:.1e} FLOPs of training at {hardware.training_utilisation:.0%} and"
        f" {generation:.1e} of generation at {hardware.generation_utilisation:.0%} of the peak of"
        f" {hardware.num_devices} devices, {peak:.1e} FLOP/s, take {spoken(seconds)}: utilisations are assumed, every"
        " completion is as long as allowed, and all devices are busy all the time."
    ]
    waiting = sum(item.request_seconds for item in work)
    if waiting:
        lines.append(
            f"Waiting for the teachers' replies takes {spoken(waiting)} besides, at {REPLY_SECONDS:g} s a reply, which"
            " is assumed, or at their pace where that is slower."
        )
    return lines


def seconds_on(work: Cost, hardware: Hardware) -> float:
    """Of all devices together, without reading, compiling and writing."""
    peak = hardware.num_devices * hardware.flops_per_second_per_device
    training, generation = work.training_flops, work.generation_flops
    return (training / hardware.training_utilisation + generation / hardware.generation_utilisation) / peak


def _prompts_in_a_chunk(stage: Stage) -> int:
    """How many prompts the sampler prefills at once: the completions of one prompt stand together and share it."""
    sharing = {"solvable": "samples", "rollouts": "samples_per_problem", "critical_traces": "samples_per_problem"}
    if stage.kind not in sharing:  # evaluation has one greedy completion of each prompt, and prefixes mostly differ
        return SAMPLER_ROWS
    section = stage.config["solvable" if stage.kind == "solvable" else "rollouts"]
    different = -(-SAMPLER_ROWS // section[sharing[stage.kind]]) + 1  # a chunk may begin amid those of one
    return min(SAMPLER_ROWS, next(size for size in PREFILL_PROMPTS if size >= different))


def _verdict(largest: Need, hardware: Hardware | None) -> str:
    if hardware is None:
        return "."
    room = hardware.memory_gib_per_device
    if largest.gib <= room:
        return f"; {hardware.name} has {room:g} GiB."
    return (
        f"; that is more than the {room:g} GiB of {hardware.name}: divide over more devices in resources.mesh, lower"
        " memory.micro_batch_tokens, set memory.remat: layers or policy.lora."
    )


def _is_accelerated(resources: Resources, kind: str) -> bool:
    return resources.hardware is not None or bool({"gpu", "tpu"} & resources.amounts[kind].keys())


def _spoken_bytes(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
