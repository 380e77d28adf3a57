"""The shape of a decoder, and the ladder of policy sizes: one dial, the name, sets width, depth and heads.

In: a size's name and a vocabulary size. Out: the frozen `ModelConfig` of a Llama-shaped decoder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

ROPE_SCALINGS = ("linear", "llama3")
EINSUM, XLA, CUDNN = ATTENTIONS = ("einsum", "xla", "cudnn")  # implementations, see scaling.model.attention
# V up to which a row of logits is cheap; an embedded policy's is smaller, a checkpoint's larger.
SMALL_VOCABULARY = 4096
TILE = 16_384  # most words of a larger vocabulary whose logits are computed at once
# With a checkpoint's vocabulary, this many layers or more are scanned: one is compiled for every group of this many.
# Policies of the ladder keep their unrolled programs.
SCANNED = 8


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are slowed down for contexts longer than the original one."""

    kind: str  # one of ROPE_SCALINGS
    factor: float
    low_frequency_factor: float | None = None  # this and the two below: llama3 only
    high_frequency_factor: float | None = None
    original_max_positions: int | None = None  # tokens

    def __post_init__(self) -> None:
        if self.kind not in ROPE_SCALINGS:
            raise ValueError(f"rope scaling is {self.kind!r}; the decoder knows {', '.join(ROPE_SCALINGS)}.")
        bounds = (self.low_frequency_factor, self.high_frequency_factor, self.original_max_positions)
        if self.kind == "llama3" and None in bounds:
            raise ValueError(
                "rope scaling llama3 has low_frequency_factor, high_frequency_factor, original_max_positions ="
                f" {bounds}; it needs all three."
            )


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
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None  # tokens that a query looks at, itself included; None: all before it
    max_positions: int | None = None  # tokens the checkpoint was made for; None: not stated
    untied_head: bool = False  # an output projection of its own instead of the embedding
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output projection
    qk_norm: bool = False  # RMSNorm on each head's queries and keys
    stop_tokens: tuple[int, ...] | None = None  # ids that end a completion; None: EOS of the word tokenizer
    bfloat16: bool = False  # compute in bfloat16; params, softmax, norms and logits stay float32
    attention: str = EINSUM  # one of ATTENTIONS: how it is computed here, and no part of a policy on disk

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads is {self.num_heads} and num_kv_heads {self.num_kv_heads}; the second must divide the first."
            )
        if self.head_width % 2:
            raise ValueError(f"head_width is {self.head_width}; rotary positions need an even number.")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention is {self.attention!r}; the decoder knows {', '.join(ATTENTIONS)}.")

    @property
    def compute_dtype(self) -> str:
        """What matrix products read and write, and what the cache holds."""
        return "bfloat16" if self.bfloat16 else "float32"

    @property
    def precision(self) -> str | None:
        """The precision of products that give float32 numbers; None: the one that the process is pinned to.

        It is set for bfloat16, because gradients of such a product are products of float32 numbers. Pinned to
        `highest`, as those of a float32 policy are on accelerators, they would take six passes of a TPU.
        """
        return "default" if self.bfloat16 else None

    @property
    def num_params(self) -> int:
        """Number of parameters; a tied embedding counts once."""
        attention = self.width * self.head_width * 2 * (self.num_heads + self.num_kv_heads)
        attention += self.qkv_bias * self.head_width * (self.num_heads + 2 * self.num_kv_heads)
        attention += self.output_bias * self.width + self.qk_norm * 2 * self.head_width
        layer = attention + 3 * self.width * self.ffn_width + 2 * self.width
        return (1 + self.untied_head) * self.vocab_size * self.width + self.num_layers * layer + self.width

    def check_room(self, num_tokens: int) -> None:
        """Raise ValueError if sequences of so many tokens are longer than the policy was made for."""
        if self.max_positions is not None and num_tokens > self.max_positions:
            raise ValueError(
                f"a batch is {num_tokens} tokens long, padding included, but the policy was made for max_positions ="
                f" {self.max_positions}; shorten prompts or completions."
            )

    def as_json(self) -> dict[str, object]:
        """The fields that are set, so that a policy is written as it was before later fields existed."""
        fields = {name: value for name, value in asdict(self).items() if name != "attention"}
        return {name: value for name, value in fields.items() if value is not None and value is not False}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "ModelConfig":
        """The config that `as_json` wrote."""
        scaling, stop_tokens = fields.get("rope_scaling"), fields.get("stop_tokens")
        parsed: dict[str, Any] = {
            "rope_scaling": None if scaling is None else RopeScaling(**scaling),
            "stop_tokens": None if stop_tokens is None else tuple(stop_tokens),
        }
        return cls(**{**fields, **parsed})


# Width doubles from rung to rung, so parameters grow about fivefold; the feed-forward width is 8/3 of the width.
_LADDER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
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
        **rung, vocab_size=vocab_size, head_width=rung["width"] // rung["num_heads"], ffn_width=ffn_width
    )
