"""The parts of every section of a sweep file: strict frozen models, and the kinds of numbers in them.

In: plain values. Out: the types that the sections are built from; `plain`, which writes a section into a
stage's config, and `parse`, which reads it in the stage. A key that a recipe leaves out cannot be read in the stage: if
it was dropped by mistake, that is an error, and never its default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter


def _countable(value: int) -> int:
    if value > 2**53:  # beyond it floats skip whole numbers, and arrays wrap
        raise ValueError(f"is {value}, but counts above 2^53 = {2**53:,} are not exact; lower it.")
    return value


def _distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"has {repeated[0]!r} more than once; list each value once.")
    return values


Distinct = AfterValidator(_distinct)  # of a list
Count = Annotated[int, Field(ge=1), AfterValidator(_countable)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # jax drops the bits above
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True)
class MayBeAbsent:
    """Marks a key that a stage's config may lack; it then has its default."""

    left_out_at_default: bool  # by `plain`, so that artifacts from before the key keep their digests


LATER = MayBeAbsent(left_out_at_default=True)  # a key that came after artifacts were made


class Section(BaseModel):
    """A frozen, strict section: an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    if not TYPE_CHECKING:  # so type checkers still know every attribute

        def __getattr__(self, name: str) -> object:
            if name in type(self).model_fields:
                raise AttributeError(
                    f"{type(self).__name__} has no {name} here: the recipe of this stage leaves the key out of its"
                    " config. Add it in the recipe (and bump the kind's version), or do not read it."
                )
            return super().__getattr__(name)


S = TypeVar("S", bound=Section)


def plain(section: Section, exclude: set[str] | None = None) -> dict[str, object]:
    """The section for a stage's config, without the keys of `exclude`, and without later keys at their defaults."""
    values = section.model_dump(mode="json", exclude=exclude)
    for name, field in type(section).model_fields.items():
        if name in values and LATER in field.metadata and getattr(section, name) == field.default:
            del values[name]
    return values


def part(section: Section, include: set[str]) -> dict[str, object]:
    """Only these keys of the section."""
    return plain(section, set(type(section).model_fields) - include)


def parse(schema: type[S], value: Mapping[str, Any]) -> S:
    """A section of the schema from a stage's plain config. Raises ValidationError for values that it does not allow.

    Only the keys that `value` states can be read from the result, and those that may be absent.
    """
    return parse_with(TypeAdapter(schema), value)


def parse_with(adapter: TypeAdapter[S], value: Mapping[str, Any]) -> S:
    """The same for a schema that is not a class, such as a union of sections."""
    return _stated(adapter.validate_python(value), value)


def is_stated(section: Section, name: str) -> bool:
    """Whether the stage's config states the key, so that it can be read."""
    return name in section.__dict__


def _stated(section: S, value: Mapping[str, Any]) -> S:
    found = section.model_copy()
    for name, field in type(section).model_fields.items():
        if name not in value:
            if not any(isinstance(mark, MayBeAbsent) for mark in field.metadata):
                del found.__dict__[name]
        elif isinstance(inner := getattr(section, name), Section):
            found.__dict__[name] = _stated(inner, value[name])
    return found
