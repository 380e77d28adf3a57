"""Turn pydantic's errors in a sweep file into readable sentences.

In: pydantic's ValidationError. Out: one sentence with the dotted key, the value, what was expected and "did you mean".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from scaling.config.errors import did_you_mean
from scaling.config.problems import families
from scaling.config.section import Section
from scaling.planning.grid import dotted_keys

# pydantic's errors about Python types, in terms of YAML.
_EXPECTED = {
    "model_type": "expected a mapping of its keys",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "too_short": "expected at least one value",
    "string_too_short": "expected some text",
}


def explain(error: ValidationError, schema: type[Any]) -> str:
    """The first mistake that pydantic found, as a sentence, with the number of further ones."""
    first, *others = error.errors()
    location = location_of(first)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        known = _keys_of_family(first["loc"]) or known_beside(location, schema)
        message = f"unknown key {location!r}.{did_you_mean(location, known)}"
    elif first["type"] == "missing":
        message = f"{location} is missing."
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
        message = f"{location} is {_shown(value)}; {expected}.{hint}"
    return message + (f" ({len(others)} more mistakes follow.)" if others else "")


def known_beside(dotted: str, schema: type[Any]) -> tuple[str, ...]:
    """The known keys of the section that holds a key; all keys if there is no such section."""
    section = dotted.rpartition(".")[0]
    beside = tuple(dict.fromkeys(key for key in dotted_keys() if section and key.startswith(f"{section}.")))
    if not beside and section:
        beside = tuple(f"{section}.{name}" for name in _keys_at(section.split("."), schema))
    return beside or tuple(schema.model_fields)


def _keys_at(path: Sequence[str], schema: type[Any]) -> tuple[str, ...]:
    """The keys of the section at a path of sections; empty if there is no such section."""
    for name in path:
        annotation = schema.model_fields[name].annotation if name in schema.model_fields else None
        models = [part for part in (annotation, *get_args(annotation)) if hasattr(part, "model_fields")]
        if not models:
            return ()
        schema = models[0]
    return tuple(schema.model_fields)


def _keys_of_family(location: Sequence[object]) -> tuple[str, ...]:
    """The keys of the problem family whose settings hold the location; empty outside of a family."""
    schemas = _schemas()
    names = [name for part in location if str(part) in schemas for name in schemas[str(part)].model_fields]
    return tuple(f"problems.{name}" for name in names)


def _schemas() -> Mapping[str, type[Section]]:
    """Name of a problem family -> its settings."""
    return {family.name: family.settings for family in families()}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def location_of(mistake: Mapping[str, Any]) -> str:
    """The dotted key of one of pydantic's errors, [i] for an entry of a list; without the tag of a family."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in mistake["loc"] if part not in _schemas()]
    return "".join(parts).removeprefix(".")
