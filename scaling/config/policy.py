"""What is trained: the section `policy` of a sweep file.

In: plain mappings. Out: the frozen settings that the recipe of the base policy reads.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from scaling.config.section import LATER, Count, Distinct, Positive, Section, Text, parse

PROMPT = "{prompt}"  # in a template: where the problem stands
# For a checkpoint without a chat template. The newline separates the problem from the completion.
DEFAULT_TEMPLATE = f"{PROMPT}\n"

Size = Literal["xxs", "xs", "s", "m", "l"]
Target = Literal["query", "key", "value", "output", "gate", "up", "down"]


class Lora(Section):
    """Train low-rank additions to some matrices of every layer instead of the params (see scaling.model.lora)."""

    rank: Count = 16
    alpha: Positive = 32.0  # the addition is scaled by alpha / rank
    targets: Annotated[tuple[Target, ...], Field(strict=False, min_length=1), Distinct] = (
        "query", "key", "value", "output", "gate", "up", "down",
    )  # fmt: skip

    @field_validator("targets")
    @classmethod
    def _in_the_schemas_order(cls, value: tuple[Target, ...]) -> tuple[Target, ...]:
        """Sorted, since every order trains the same adapters and should have the same identity."""
        return tuple(sorted(value, key=get_args(Target).index))

    @property
    def scaling(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / self.rank


def lora_of(config: Mapping[str, Any]) -> Lora | None:
    """The lora settings of a training stage; its config has the key only if adapters are trained."""
    return parse(Lora, config["lora"]) if "lora" in config else None


class Policy(Section):
    """The architecture and what training starts from."""

    size: Size = "xs"
    base: Literal["pretrained", "random"] = "pretrained"
    hf: Text | None = None  # a Hugging Face checkpoint instead: hub name or path
    revision: Text | None = None  # of the hub's repository
    compute_dtype: Annotated[Literal["float32", "bfloat16"], LATER] = "float32"  # of matrix products and the cache
    prompt_template: Text | None = None  # of prompts; null: the checkpoint's chat template
    lora: Lora | None = None  # for SFT and what follows it; the base policy is pretrained whole

    @model_validator(mode="after")
    def _one_source(self) -> "Policy":
        if self.hf is not None and (self.size, self.base) != ("xs", "pretrained"):
            raise ValueError(
                f"hf is {self.hf!r}, but size is {self.size!r} and base {self.base!r}; a checkpoint has its own size"
                " and params: leave size and base out."
            )
        if self.prompt_template is not None and self.hf is None:
            raise ValueError(
                f"prompt_template is {self.prompt_template!r} without hf; the family's own prompts have no template."
            )
        if self.prompt_template is not None and self.prompt_template.count(PROMPT) != 1:
            raise ValueError(
                f"prompt_template is {self.prompt_template!r}; it must have {PROMPT} once, where the problem stands."
            )
        if self.revision is not None and self.hf is None:
            raise ValueError(f"revision is {self.revision!r} without hf; name the hub's repository in hf.")
        return self
