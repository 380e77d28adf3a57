"""The stages of a plan that need most memory on a device, and the time that the plan takes on given hardware.

In: stages, their costs, and the sections `resources` and `memory` of their sweep. Out: bytes by purpose for each stage
that has a policy here, and the lines that `--plan` prints. Lengths are the longest that the family allows, as in
scaling.pricing.costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.config.memory import Memory
from scaling.config.policy import lora_of
from scaling.config.resources import Hardware, Resources
from scaling.engine.eta import spoken
from scaling.kinds import kind_of, loaded
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
from scaling.pricing.costs import Cost, cost
from scaling.pricing.lengths import longest, setting
from scaling.pricing.teacher_bill import REPLY_SECONDS
from scaling.stage import Stage

GIB = 2.0**30
NUM_PARTS = 4  # of the largest stage, named in a line


@dataclass(frozen=True)
class Need:
    """The memory of a stage on one device."""

    stage: Stage
    parts: dict[str, float]  # purpose -> bytes

    @property
    def gib(self) -> float:
        return sum(self.parts.values()) / GIB


@dataclass(frozen=True)
class Device:
    """The share of one device of a mesh."""

    axes: Mapping[str, int]  # sizes of the mesh's axes
    tokens_limit: int  # of one micro-batch
    remat: bool

    @property
    def ways(self) -> int:
        """Number of devices that rows are divided over."""
        return self.axes["data"] * self.axes["fsdp"]


def need(stage: Stage, resources: Resources, memory: Memory) -> Need | None:
    """The memory of a stage on each of its devices; None for a stage that computes nothing with a policy here."""
    kind = kind_of(stage.kind)
    if kind.memory is None or cost(stage).flops == 0:
        return None
    accelerated = _is_accelerated(resources, kind.resource_class)
    limit = memory.micro_batch_tokens or (ACCELERATOR_TOKENS if accelerated else CPU_TOKENS)
    device = Device(resources.meshes[kind.resource_class], limit, memory.remat == "layers")
    return Need(stage, loaded(kind.memory)(stage, device))


def training(stage: Stage, device: Device, sequences: int = 1) -> dict[str, float]:
    """Bytes by purpose of an update in the batches of the section named after the stage's kind; sequences: in a row."""
    return _update(stage, device, stage.config[stage.kind]["batch_size"], sequences)


def training_on_pairs(stage: Stage, device: Device) -> dict[str, float]:
    return training(stage, device, sequences=2)


def pretraining(stage: Stage, device: Device) -> dict[str, float]:
    """Bytes by purpose of an update of an oracle, in the batches of the base policy's pretraining."""
    return _update(stage, device, stage.config["pretrain"]["batch_size"])


def distilling(stage: Stage, device: Device) -> dict[str, float]:
    """The same as on_policy, with the oracle's params."""
    oracle = setting(stage.inputs["oracle"])[1]
    params = training_memory(oracle, device.axes, rows=1, length=1)["start policy"]
    return {**on_policy(stage, device), "oracle": params}


def on_policy(stage: Stage, device: Device) -> dict[str, float]:
    """Bytes by purpose while a chunk is sampled or in an update, whichever needs more."""
    settings = stage.config[stage.kind]
    updating = _update(stage, device, settings["problems_per_update"] * settings["samples_per_problem"])
    kept = {name: updating[name] for name in ("start policy", "AdamW moments")}
    return max(updating, {**sampling(stage, device), **kept}, key=lambda parts: sum(parts.values()))


def sampling(stage: Stage, device: Device) -> dict[str, float]:
    """Bytes by purpose while a chunk of completions is sampled."""
    shape, prompt, completion = longest(stage)
    samples = kind_of(stage.kind).samples
    if samples is not None and samples.from_prefixes:  # prefixes end anywhere, on average half-way
        prompt, completion = prompt + completion // 2, completion - completion // 2
    rows, prompts = -(-SAMPLER_ROWS // device.ways), -(-_prompts_in_a_chunk(stage) // device.ways)
    return sampling_memory(shape, device.axes, rows, prompts, padded(prompt), padded(completion))


def scoring(stage: Stage, device: Device) -> dict[str, float]:
    """Bytes by purpose of a forward pass over whole traces; nothing is sampled."""
    shape, prompt, completion = longest(stage)
    length = padded(prompt + completion)
    rows = rows_on_device(length, -(-SCORING_ROWS // device.ways), device.tokens_limit)
    return scoring_memory(shape, device.axes, rows, length)


def scoring_by_judge(stage: Stage, device: Device) -> dict[str, float]:
    return scoring(stage, device) if "judge" in stage.inputs else {}


def memory_lines(stages: Sequence[Stage], resources: Resources, memory: Memory) -> list[str]:
    """For each class of stages with a policy, the stage that needs most memory on a device, and whether it fits."""
    needs = [found for stage in stages if (found := need(stage, resources, memory)) is not None]
    lines = []
    for kind in ("train", "rollouts"):
        of_kind = [found for found in needs if kind_of(found.stage.kind).resource_class == kind]
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
    """How long the FLOPs take on the hardware at the assumed utilisation; waiting is separate."""
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
            f"Waiting for the teachers' replies takes another {spoken(waiting)} at {REPLY_SECONDS:g} s a reply, which"
            " is assumed, or at their pace where that is slower."
        )
    return lines


def seconds_on(work: Cost, hardware: Hardware) -> float:
    """Seconds on all devices together, without reading, compiling and writing."""
    peak = hardware.num_devices * hardware.flops_per_second_per_device
    training, generation = work.training_flops, work.generation_flops
    return (training / hardware.training_utilisation + generation / hardware.generation_utilisation) / peak


def _update(stage: Stage, device: Device, batch_size: int, sequences: int = 1) -> dict[str, float]:
    """Bytes by purpose of an update in batches of so many rows."""
    shape, prompt, completion = longest(stage)
    length = padded(prompt + completion)
    batch = -(-batch_size // device.ways)
    rows = sequences * rows_on_device(sequences * length, batch, device.tokens_limit)
    return training_memory(shape, device.axes, rows, length, lora_of(stage.config), device.remat)


def _prompts_in_a_chunk(stage: Stage) -> int:
    """How many prompts the sampler prefills at once: adjacent completions of one prompt share it."""
    samples = kind_of(stage.kind).samples
    if samples is None or samples.per_prompt is None:  # one greedy completion of each prompt, or prefixes that differ
        return SAMPLER_ROWS
    section = stage.config if samples.section is None else stage.config[samples.section]
    different = (
        -(-SAMPLER_ROWS // section[samples.per_prompt]) + 1
    )  # a chunk may begin between completions of one prompt
    return min(SAMPLER_ROWS, next(size for size in PREFILL_PROMPTS if size >= different))


def _verdict(largest: Need, hardware: Hardware | None) -> str:
    if hardware is None:
        return "."
    room = hardware.memory_gib_per_device
    if largest.gib <= room:
        return f"; {hardware.name} has {room:g} GiB."
    return (
        f"; more than the {room:g} GiB of {hardware.name}: divide over more devices in resources.mesh, lower"
        " memory.micro_batch_tokens, set memory.remat: layers or policy.lora."
    )


def _is_accelerated(resources: Resources, kind: str) -> bool:
    return resources.hardware is not None or bool({"gpu", "tpu"} & resources.amounts[kind].keys())


def _spoken_bytes(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
