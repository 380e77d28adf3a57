"""Turn pydantic's errors in a sweep file into readable sentences.

In: pydantic's ValidationError. Out: a sentence for each mistake: the dotted key, the value, what was
expected, and the cure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from scaling.config.errors import did_you_mean
from scaling.config.problems import families
from scaling.config.section import Section
from scaling.planning.grid import dotted_keys, sections_of

# pydantic's errors about Python types, in terms of YAML.
_EXPECTED = {
    "model_type": "expected a mapping of its keys",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "too_short": "expected at least one value",
    "string_too_short": "expected some text",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "int_parsing": "expected an integer",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
}
_AS_PYDANTIC_SAYS = re.compile(r"^Input should be (a valid )?(?=.)")


def explain(error: ValidationError, schema: type[Any]) -> list[str]:
    """A sentence for each mistake that pydantic found.

    One for each key, however many types a value was tried as, and none for a list or section whose entries have some.
    """
    found = {location_of(mistake): _sentence(mistake, schema) for mistake in reversed(error.errors())}
    outer = [place for place in found if any(inner.startswith((f"{place}[", f"{place}.")) for inner in found)]
    return [found[place] for place in reversed(found) if place not in outer]


def _sentence(mistake: Mapping[str, Any], schema: type[Any]) -> str:
    location, value, kind = location_of(mistake), mistake.get("input"), mistake["type"]
    if kind == "extra_forbidden":
        known = _keys_of_family(mistake["loc"]) or known_beside(location, schema)
        return f"unknown key {location!r}.{did_you_mean(location, known)}"
    if kind == "missing":
        always = "; every sweep states question, grid and seeds" if location in ("question", "grid", "seeds") else ""
        return f"{location} is missing{always}."
    if kind == "value_error":
        return f"{location}: {mistake['msg'].removeprefix('Value error, ')}"
    if kind == "union_tag_invalid":
        return f"{location}.family is {mistake['ctx']['tag']!r}; expected one of {mistake['ctx']['expected_tags']}."
    if kind == "union_tag_not_found":
        return f"{location}.family is missing; name the problem family, such as modular_sum."
    expected = _EXPECTED.get(kind, _AS_PYDANTIC_SAYS.sub("expected ", mistake["msg"]))
    return f"{location} is {_shown(value)}; {expected}.{_cure(location, value, mistake)}"


def _cure(location: str, value: object, mistake: Mapping[str, Any]) -> str:
    """A sentence that begins with a space, or nothing."""
    kind = mistake["type"]
    if kind == "literal_error" and isinstance(value, str):
        return did_you_mean(value, tuple(re.findall(r"'([^']+)'", mistake["ctx"]["expected"])))
    if isinstance(value, list) and location in dotted_keys():
        return f" To vary it, put it under grid: `{location}: {_shown(value)}`."
    if kind == "string_type" and not isinstance(value, list | dict | None):
        return f' Quote the text: "{value}".'
    if kind in ("tuple_type", "list_type") and not isinstance(value, dict | None):
        return " Write [0, 1, 2] for three." if location == "seeds" else f" Write [{value}]."
    return ""


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
        inner = sections_of(schema, name)
        if not inner:
            return ()
        schema = inner[0]
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
