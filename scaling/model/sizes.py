"""The ladder of policy sizes: one dial, the name, sets width, depth and heads.

In: a size's name and a vocabulary size. Out: the frozen `ModelConfig` of a Llama-shaped decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder; hashable, so that compiled functions are shared by equal shapes."""

    vocab_size: int  # V
    width: int  # D
    num_layers: int  # L
    num_heads: int  # H
    num_kv_heads: int  # divides num_heads; fewer is grouped-query attention
    head_width: int
    ffn_width: int
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads is {self.num_heads} and num_kv_heads {self.num_kv_heads}; the second must divide the first."
            )
        if self.head_width % 2:
            raise ValueError(f"head_width is {self.head_width}; rotary positions need an even number.")

    @property
    def num_params(self) -> int:
        """Number of parameters; the embedding is tied, so it counts once."""
        attention = self.width * self.head_width * 2 * (self.num_heads + self.num_kv_heads)
        layer = attention + 3 * self.width * self.ffn_width + 2 * self.width
        return self.vocab_size * self.width + self.num_layers * layer + self.width


# Width doubles from rung to rung, so parameters grow about fivefold; the feed-forward width is 8/3 of the width.
_LADDER: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "xxs": {"width": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2},
        "xs": {"width": 64, "num_layers": 3, "num_heads": 4, "num_kv_heads": 4},
        "s": {"width": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 4},
        "m": {"width": 256, "num_layers": 6, "num_heads": 8, "num_kv_heads": 4},
        "l": {"width": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 4},
    }
)
SIZES = tuple(_LADDER)


def model_config(size: str, vocab_size: int) -> ModelConfig:
    """The decoder of a rung of the ladder."""
    rung = _LADDER[size]
    ffn_width = -(-rung["width"] * 8 // 3 // 16) * 16  # rounded up to a multiple of 16
    return ModelConfig(
        vocab_size=vocab_size, head_width=rung["width"] // rung["num_heads"], ffn_width=ffn_width, **rung
    )
