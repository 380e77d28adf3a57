"""The one error of a wrong sweep file, and our words for what pydantic found.

In: pydantic's ValidationError. Out: one sentence with the dotted key, the value, what was expected and "did you mean".
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from data.problems.families import FAMILIES
from scaling.grid import dotted_keys


class ConfigError(ValueError):
    """A sweep file is wrong; the message says where and what to do."""


def explain(error: ValidationError, schema: type) -> str:
    """The first mistake that pydantic found, in our words, with how many more there are."""
    first, *others = error.errors()
    location = location_of(first)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        section = location.rpartition(".")[0]
        known = [key for key in dotted_keys() if key.startswith(f"{section}.")] or list(schema.model_fields)
        message = f"unknown key {location!r}.{did_you_mean(location, tuple(known))}"
    elif first["type"] == "value_error":
        message = f"{location}: {first['msg'].removeprefix('Value error, ')}"
    elif first["type"] == "union_tag_invalid":
        message = f"{location}.family is {first['ctx']['tag']!r}; expected one of {first['ctx']['expected_tags']}."
    elif first["type"] == "union_tag_not_found":
        message = f"{location}.family is missing; name the problem family, such as modular_sum."
    else:
        expected = first["msg"][0].lower() + first["msg"][1:]
        hint = ""
        if first["type"] == "literal_error" and isinstance(value, str):
            hint = did_you_mean(value, tuple(re.findall(r"'([^']+)'", first["ctx"]["expected"])))
        message = f"{location} is {value!r}; {expected}.{hint}"
    return message + (f" ({len(others)} more mistakes after this one.)" if others else "")


def location_of(mistake: Mapping) -> str:
    """The dotted key of one of pydantic's errors; the tag of a problem family is no part of it."""
    return ".".join(str(part) for part in mistake["loc"] if part not in FAMILIES)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return (
        f" Did you mean {close[0]!r}?"
        if close
        else f" Known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else ".")
    )
