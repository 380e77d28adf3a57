"""What bounds a compiled call: the arithmetic or the memory of a device (Williams et al. 2009, the roofline model).

In: a `Program`. Out: FLOPs and bytes of one device, and from its peaks the seconds that the call takes at least. Bytes
are those that must come from the device's memory: params as often as they are read, the cache once a token, what a
gradient needs. The network between devices is not counted, though it bounds a sampler with `fsdp`, which gathers the
params for every token.
"""

from dataclasses import dataclass

from scaling.config.resources import Hardware
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.layout import params_on_device
from scaling.model.memory_need import FLOAT32
from scaling.pricing.programs import Program


@dataclass(frozen=True)
class Load:
    """What one device does in one call."""

    flops: float
    bytes: float

    def seconds(self, hardware: Hardware) -> dict[str, float]:
        """At least so many, by what bounds them; memory only where its rate is known."""
        found = {"compute": self.flops / hardware.flops_per_second_per_device}
        if hardware.bytes_per_second_per_device is not None:
            found["memory"] = self.bytes / hardware.bytes_per_second_per_device
        return found


def load(program: Program) -> Load:
    """The FLOPs and bytes of a call, padding included."""
    shape, axes, memory = program.shape, program.axes, program.memory
    number = 2 if shape.bfloat16 else FLOAT32
    read = number * params_on_device(shape, {**axes, "fsdp": 1})  # gathered, in the type of computations
    share = program.rows / (program.ways * axes["tensor"])  # of a device's work, counted in rows
    if program.work == "sampling":
        prefill = program.prompts / program.rows
        whole = sampling_flops(shape, [program.length], [program.new_tokens])
        flops = whole - (1 - prefill) * forward_flops(shape, [program.length])
        moved = (1 + program.new_tokens) * read + program.new_tokens * memory["cache"]
        return Load(share * flops, moved)
    forward = forward_flops(shape, [program.length])
    if program.work == "scoring":
        return Load(share * forward, read + memory["activations"] + memory["logits"])
    again = forward if program.remat else 0.0
    flops = training_flops(shape, [program.length], program.lora) + again
    moved = (3 if program.remat else 2) * read + 2 * (memory["activations"] + memory["logits"])
    return Load(share * flops, moved + memory["params"] + 2 * memory["gradients"])
