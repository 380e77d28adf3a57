"""The one error of a wrong sweep file, and our words for what pydantic found.

In: pydantic's ValidationError. Out: one sentence with the dotted key, the value, what was expected and "did you mean".
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from data.problems.families import FAMILIES
from scaling.grid import dotted_keys

# pydantic's words for Python types, in those of YAML.
_EXPECTED = {"model_type": "expected a mapping of its keys", "tuple_type": "expected a list"}


class ConfigError(ValueError):
    """A sweep file is wrong; the message says where and what to do."""


def explain(error: ValidationError, schema: type) -> str:
    """The first mistake that pydantic found, in our words, with how many more there are."""
    first, *others = error.errors()
    location = location_of(first)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        message = f"unknown key {location!r}.{did_you_mean(location, known_beside(location, schema))}"
    elif first["type"] == "value_error":
        message = f"{location}: {first['msg'].removeprefix('Value error, ')}"
    elif first["type"] == "union_tag_invalid":
        message = f"{location}.family is {first['ctx']['tag']!r}; expected one of {first['ctx']['expected_tags']}."
    elif first["type"] == "union_tag_not_found":
        message = f"{location}.family is missing; name the problem family, such as modular_sum."
    else:
        expected = _EXPECTED.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
        hint = ""
        if first["type"] == "literal_error" and isinstance(value, str):
            hint = did_you_mean(value, tuple(re.findall(r"'([^']+)'", first["ctx"]["expected"])))
        message = f"{location} is {value!r}; {expected}.{hint}"
    return message + (f" ({len(others)} more mistakes after this one.)" if others else "")


def known_beside(dotted: str, schema: type) -> tuple[str, ...]:
    """The known keys of the section that a key is in; all of them where there is no such section."""
    section = dotted.rpartition(".")[0]
    beside = tuple(dict.fromkeys(key for key in dotted_keys() if section and key.startswith(f"{section}.")))
    if not beside and section in schema.model_fields:
        names = getattr(schema.model_fields[section].annotation, "model_fields", {})
        beside = tuple(f"{section}.{name}" for name in names)
    return beside or tuple(schema.model_fields)


def location_of(mistake: Mapping) -> str:
    """The dotted key of one of pydantic's errors, [i] for an entry of a list; the tag of a family is no part of it."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in mistake["loc"] if part not in FAMILIES]
    return "".join(parts).removeprefix(".")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return (
        f" Did you mean {close[0]!r}?"
        if close
        else f" Known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else ".")
    )
