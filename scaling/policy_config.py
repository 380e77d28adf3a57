"""What is trained: the section `policy` of a sweep file.

In: plain mappings. Out: the frozen settings that the recipe of the base policy reads.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.section import Section

Size = Literal["xxs", "xs", "s", "m", "l"]


class Policy(Section):
    """The architecture and what training starts from."""

    size: Size = "xs"
    base: Literal["pretrained", "random"] = "pretrained"
    hf: Annotated[str, Field(min_length=1)] | None = None  # a Hugging Face checkpoint instead: hub name or path
    revision: Annotated[str, Field(min_length=1)] | None = None  # of the hub's repository

    @model_validator(mode="after")
    def _one_source(self) -> "Policy":
        if self.hf is not None and (self.size, self.base) != ("xs", "pretrained"):
            raise ValueError(
                f"hf is {self.hf!r}, but size is {self.size!r} and base {self.base!r}; a checkpoint has its own size"
                " and params: leave size and base out."
            )
        if self.revision is not None and self.hf is None:
            raise ValueError(f"revision is {self.revision!r} without hf; name the hub's repository in hf.")
        return self
