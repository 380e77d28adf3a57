"""What every section of a sweep file is made of: strict frozen models, and the kinds of numbers in them.

In: plain values. Out: the types that `scaling.config` and `scaling.problem_config` build their sections from.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter


def _countable(value: int) -> int:
    if value > 2**53:  # beyond it floats skip whole numbers, and arrays wrap
        raise ValueError(f"is {value}, but no more than 2^53 = {2**53:,} of anything are counted exactly; lower it.")
    return value


Count = Annotated[int, Field(ge=1), AfterValidator(_countable)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Counts = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # jax drops the bits above
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)]


class Section(BaseModel):
    """A frozen, strict section: an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def parse(schema: object, value: object):
    """A section of the schema from a stage's plain config; the stage's side of what a plan wrote."""
    return TypeAdapter(schema).validate_python(value)
