"""The stages of a plan that need most memory on a device, and the time that the plan takes on given hardware.

In: stages, their costs, and the sections `resources` and `memory` of their sweep. Out: bytes by purpose for each stage
that has a policy here, and the lines that `--plan` prints. Lengths are the longest that the family allows, as in
scaling.pricing.costs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaling.config.memory import Memory
from scaling.config.resources import Hardware, Mesh, Meshes, Resources
from scaling.engine.eta import spoken
from scaling.kinds import kind_of, loaded
from scaling.model.layout import ONE_DEVICE
from scaling.model.memory_need import ACCELERATOR_TOKENS, CPU_TOKENS
from scaling.pricing.costs import Cost, cost
from scaling.pricing.programs import Device, Program
from scaling.pricing.roofline import load
from scaling.pricing.teacher_bill import REPLY_SECONDS
from scaling.stage import Stage

GIB = 2.0**30
NUM_PARTS = 4  # of the largest stage, named in a line


@dataclass(frozen=True)
class Need:
    """The largest call of a stage, by the memory of one device."""

    stage: Stage
    program: Program

    @property
    def parts(self) -> dict[str, float]:
        """Purpose -> bytes."""
        return self.program.memory

    @property
    def gib(self) -> float:
        return sum(self.parts.values()) / GIB


def need(stage: Stage, resources: Resources, memory: Memory, hardware: Hardware | None = None) -> Need | None:
    """The memory of a stage on each of its devices; None for a stage that computes nothing with a policy here."""
    calls = programs(stage, device_of(stage, resources, memory, hardware))
    needs = (Need(stage, program) for program in calls)
    return max(needs, key=lambda found: found.gib, default=None)


def programs(stage: Stage, device: Device) -> tuple[Program, ...]:
    """The compiled calls of a stage; none if it computes nothing with a policy here."""
    memory = kind_of(stage.kind).memory
    if memory is None or cost(stage).flops == 0:
        return ()
    calls: tuple[Program, ...] = loaded(memory)(stage, device)
    return tuple(replace(call, shape=replace(call.shape, attention=device.attention)) for call in calls)


def device_of(stage: Stage, resources: Resources, memory: Memory, hardware: Hardware | None = None) -> Device:
    """The share of one of the devices that a stage runs on: of some hardware, or of what its workers ask for."""
    resource_class = kind_of(stage.kind).resource_class
    axes = resources.meshes_on(hardware).get(resource_class, ONE_DEVICE)
    accelerated = hardware is not None or bool({"gpu", "tpu"} & resources.amounts[resource_class].keys())
    limit = memory.micro_batch_tokens or (ACCELERATOR_TOKENS if accelerated else CPU_TOKENS)
    return Device(axes, limit, memory.remat == "layers", memory.packing, memory.attention)


def memory_lines(stages: Sequence[Stage], resources: Resources, memory: Memory) -> list[str]:
    """For each class of stages with a policy, the stage that needs most memory on a device, and whether it fits."""
    lines, fitting = [], {}
    for hardware in resources.hardware or (None,):
        largest = _largest(stages, resources, memory, hardware)
        lines += [_line(found, hardware, resources, memory) for found in largest.values()]
        if hardware is not None:
            fitting[hardware.name] = all(_fits(found, hardware) for found in largest.values())
    if not lines:
        return []
    if len(fitting) > 1:
        fits, full = (", ".join(name for name, fit in fitting.items() if fit is asked) for asked in (True, False))
        lines.append(f"  Fits: {fits or 'none'}. Does not fit: {full or 'none'}.")
    return ["Memory predicted, largest stage of a class:", *lines]


def mesh_that_fits(found: Need, hardware: Hardware, resources: Resources, memory: Memory) -> Mesh | None:
    """A mesh of as many devices with room for the stage; None if there is none.

    Of those, the one that divides least over `tensor`; for the rest training has `fsdp`, and sampling `data`, since
    with `fsdp` a sampler gathers the params for every token.
    """
    count = math.prod(found.program.mesh)
    rest = "data" if found.program.work == "sampling" else "fsdp"
    for tensor in (number for number in range(1, count + 1) if count % number == 0):
        mesh = Mesh.model_validate({rest: count // tensor, "tensor": tensor})
        meshes = Meshes(train=mesh, rollouts=mesh)
        tried = need(found.stage, resources, memory, hardware.model_copy(update={"mesh": meshes}))
        if tried is not None and _fits(tried, hardware):
            return mesh
    return None


def _largest(
    stages: Sequence[Stage], resources: Resources, memory: Memory, hardware: Hardware | None
) -> dict[str, Need]:
    """Class of stages -> the one that needs most; of those that compute with a policy."""
    needs = [found for stage in stages if (found := need(stage, resources, memory, hardware)) is not None]
    by_class = {
        name: [found for found in needs if kind_of(found.stage.kind).resource_class == name]
        for name in ("train", "rollouts")
    }
    return {name: max(found, key=lambda one: one.gib) for name, found in by_class.items() if found}


def _line(found: Need, hardware: Hardware | None, resources: Resources, memory: Memory) -> str:
    kind, devices = kind_of(found.stage.kind).resource_class, math.prod(found.program.mesh)
    parts = sorted(found.parts.items(), key=lambda part: -part[1])[:NUM_PARTS]
    named = ", ".join(f"{name} {_spoken_bytes(size)}" for name, size in parts if size)
    on = "1 device" if devices == 1 else f"each of {devices} devices"
    said = f"  {kind}: {_spoken_bytes(found.gib * GIB)} on {on}, for {found.stage.name} ({named})"
    if hardware is None:
        return f"{said}."
    if _fits(found, hardware):
        seconds = load(found.program).seconds(hardware)
        bound = max(seconds, key=lambda by: seconds[by])
        bounded = f", where {bound} bounds a call to at least {seconds[bound]:.2g} s" if len(seconds) > 1 else ""
        return f"{said}; {hardware.name} has {hardware.memory_gib_per_device:g} GiB{bounded}."
    better = mesh_that_fits(found, hardware, resources, memory)
    if better is not None:
        sizes = ", ".join(f"{name}: {size}" for name, size in better.model_dump().items() if size > 1)
        cure = f"it fits with the mesh {{{sizes}}} for {kind}"
    else:
        cure = "divide over more devices in resources.mesh, lower memory.micro_batch_tokens,"
        cure += " set memory.remat: layers or policy.lora"
    return f"{said}; more than the {hardware.memory_gib_per_device:g} GiB of {hardware.name}: {cure}."


def _fits(found: Need, hardware: Hardware) -> bool:
    return found.gib <= hardware.memory_gib_per_device


def time_lines(work: Sequence[Cost], hardware: Hardware) -> list[str]:
    """How long the FLOPs take on the hardware at the assumed utilisation; waiting is separate."""
    peak = hardware.num_devices * hardware.flops_per_second_per_device
    training, generation = sum(item.training_flops for item in work), sum(item.generation_flops for item in work)
    seconds = sum(seconds_on(item, hardware) for item in work)
    lines = [
        f"On {hardware.name}: {training:.1e} FLOPs of training at {hardware.training_utilisation:.0%} and"
        f" {generation:.1e} of generation at {hardware.generation_utilisation:.0%} of the peak of"
        f" {hardware.num_devices} devices, {peak:.1e} FLOP/s, take {spoken(seconds)}: utilisations are"
        " assumed, and all devices are busy all the time."
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
    training, generation = work.training_flops, work.generation_flops - work.shared_flops
    return (training / hardware.training_utilisation + generation / hardware.generation_utilisation) / peak


def _spoken_bytes(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
