"""How much memory a training step takes: the section `memory` of a sweep file.

In: plain mappings. Out: frozen settings for workers. They trade memory for time and change no result beyond rounding,
so they are not part of a stage's config or identity, like `resources`.
"""

from typing import Literal

from scaling.config.section import Count, Section


class Memory(Section):
    """What a training step keeps, and how much it computes at once."""

    remat: Literal["none", "layers"] = "none"  # layers: keep each layer's input only, compute the rest again
    micro_batch_tokens: Count | None = None  # tokens of one compiled call; null: by the kind of machine
    packing: bool = True  # with a checkpoint's policy several sequences share a row
    attention: Literal["einsum", "xla", "cudnn"] = "einsum"  # its implementation, see scaling.model.attention
