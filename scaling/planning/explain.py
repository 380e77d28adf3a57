"""Turn pydantic's errors in a sweep file into readable sentences.

In: pydantic's ValidationError. Out: a sentence for each mistake: the dotted key, the value, what was
expected, and the cure.
"""

import datetime
import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from scaling.config.errors import did_you_mean, nearest
from scaling.config.problems import families
from scaling.config.section import Section
from scaling.planning.grid import dotted_keys, sections_of

# pydantic's errors about Python types, in terms of YAML.
_EXPECTED = {
    "model_type": "expected a mapping of its keys",
    "model_attributes_type": "expected a mapping of its keys",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "too_short": "expected at least one value",
    "string_too_short": "expected some text",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-'",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "int_parsing": "expected an integer",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
}
_MAPPINGS = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_LISTS = ("tuple_type", "list_type")
_AS_PYDANTIC_SAYS = re.compile(r"^Input should be (a valid )?(?=.)")


def explained(error: ValidationError, schema: type[Any], varied: Container[str] = ()) -> dict[str, str]:
    """Dotted key -> the sentence about it; the key is empty for a mistake of several sections.

    One for each key, however many types a value was tried as, and none for a list or section whose entries have some.
    varied: keys whose value is one of an axis.
    """
    mistakes = {location_of(mistake): mistake for mistake in reversed(error.errors())}
    outer = [place for place in mistakes if any(inner.startswith((f"{place}[", f"{place}.")) for inner in mistakes)]
    return {
        place: _sentence(mistakes[place], schema, place in varied) for place in reversed(mistakes) if place not in outer
    }


def unknown_key(dotted: str, known: Sequence[str], leaf: str | None = None) -> str:
    """A sentence about a key that its section does not have; leaf: the key itself, which may hold a dot."""
    section, dot, key = (leaf or dotted).partition(".")
    if dot and key:
        return f"unknown key {dotted!r}. Write it inside of its section, as {section}: {{{key}: ...}}."
    return f"unknown key {dotted!r}.{did_you_mean(dotted, known)}"


def _sentence(mistake: Mapping[str, Any], schema: type[Any], is_varied: bool) -> str:
    location, value, kind = location_of(mistake), mistake.get("input"), mistake["type"]
    if kind == "extra_forbidden":
        return _unknown(mistake["loc"], schema)
    if kind == "invalid_key" or mistake["loc"][-1:] == ("[key]",):
        section = location_of({"loc": mistake["loc"][: -1 if kind == "invalid_key" else -2]})
        commas = " A number has no comma: write 1000." if type(value) is int else ""
        return f"{section} has the key {value!r}; expected a word.{commas}"
    if kind == "missing":
        always = "; every sweep states question, grid and seeds" if location in ("question", "grid", "seeds") else ""
        return f"{location} is missing{always}."
    if kind == "value_error":
        message = mistake["msg"].removeprefix("Value error, ")
        return f"{location}{' ' if message.startswith(('is ', 'has ')) else ': '}{message}" if location else message
    if kind == "union_tag_invalid":
        tag, expected = value["family"] if isinstance(value, dict) else value, mistake["ctx"]["expected_tags"]
        return f"{location}.family is {tag!r}; expected one of {expected}.{nearest(tag, re.findall(_QUOTED, expected))}"
    if kind == "union_tag_not_found":
        return f"{location}.family is missing; name the problem family, such as modular_sum."
    expected = _EXPECTED.get(kind, _AS_PYDANTIC_SAYS.sub("expected ", mistake["msg"]))
    if kind == "too_long":
        expected = f"expected {mistake['ctx']['max_length']} values"
    return f"{location} is {_shown(value)}; {expected}.{_cure(mistake, schema, is_varied)}"


def _unknown(place: Sequence[object], schema: type[Any]) -> str:
    """A sentence about an unknown key; in the settings of a problem family, with the other families that have it."""
    location, key, schemas = location_of({"loc": place}), str(place[-1]), _schemas()
    family = next((str(part) for part in place if part in schemas), None)
    if family is None:
        return unknown_key(location, known_beside(location, schema), key)
    known = tuple(f"problems.{name}" for name in schemas[family].model_fields)
    having = [name for name, settings in schemas.items() if key in settings.model_fields]
    return unknown_key(location, known, key) + (f" It is a key of the family {', '.join(having)}." if having else "")


_QUOTED = r"'([^']+)'"


def _cure(mistake: Mapping[str, Any], schema: type[Any], is_varied: bool) -> str:
    """A sentence that begins with a space, or nothing."""
    location, value, kind = location_of(mistake), mistake.get("input"), mistake["type"]
    name, default = location.rpartition(".")[2], _default_at(mistake["loc"], schema)
    if kind == "literal_error" and (cure := nearest(value, re.findall(_QUOTED, mistake["ctx"]["expected"]))):
        return cure
    if kind in _LISTS and location == "seeds":
        return " Write [0, 1, 2] for three."
    if kind in _LISTS:
        return (
            f" Write [{_shown(value)}]." if isinstance(value, dict) else "" if value is None else f" Write [{value}]."
        )
    if kind in _MAPPINGS:
        return f" Write {name}: {{{_example(default)}}}."
    if isinstance(value, list) and value and location in dotted_keys():
        if is_varied:
            return " An axis is one list: leave the inner brackets out."
        return f" To vary it, put it under grid: `{location}: {_shown(value)}`."
    if kind == "string_type" and isinstance(value, bool):
        return ' Quote a text that YAML reads as true or false: "on", "off", "yes", "no".'
    if kind == "string_type" and isinstance(value, int | float | datetime.date):
        return f' Quote the text: "{value}".'
    if (number := _number_in(value, kind)) is not None:
        return f" Write {number}."
    if default in (None, "") or not isinstance(default, str | int | float):
        return ""
    return f" The default is {str(default).lower() if isinstance(default, bool) else default}."


def _number_in(value: object, kind: str) -> str | None:
    """The number that a text or a float was meant as: 0.1 for '10%', 1000 for 1e3 where an integer is expected."""
    if not kind.startswith(("int_", "float_")) or isinstance(value, bool) or not isinstance(value, str | float):
        return None
    text = str(value)
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    if kind.startswith("int_"):
        return str(int(number)) if number.is_integer() else None
    return f"{number:g}"


def _default_at(location: Sequence[object], schema: type[Any]) -> object:
    """The default of the key at a place in the schema; None for an entry of a list, and where there is none."""
    schemas: Sequence[type[BaseModel]] = [schema]
    default: object = None
    for part in map(str, location):
        if part in _schemas():
            schemas = [_schemas()[part]]
            continue
        owner = next((one for one in schemas if part in one.model_fields), None)
        if owner is None:
            return None
        default, schemas = owner.model_fields[part].default, sections_of(owner, part)
        if schemas and not isinstance(default, BaseModel):
            default = schemas[0]
    return None if default is PydanticUndefined else default


def _example(default: object) -> str:
    """What the braces of a mapping hold, from its default or its class."""
    if isinstance(default, Mapping) and default:
        return ", ".join(f"{key}: {value:g}" for key, value in default.items())
    section = default if isinstance(default, type) else type(default)
    if issubclass(section, BaseModel):
        for key, field in section.model_fields.items():
            if isinstance(field.default, str | int | float):
                return f"{key}: {field.default}"
        return f"{next(iter(section.model_fields))}: ..."
    return "KEY: VALUE"


def known_beside(dotted: str, schema: type[Any]) -> tuple[str, ...]:
    """The known keys of the section that holds a key; all keys if there is no such section."""
    section = re.sub(r"\[\d+\]", "", dotted).rpartition(".")[0]
    beside = tuple(dict.fromkeys(key for key in dotted_keys() if section and key.startswith(f"{section}.")))
    if not beside and section:
        beside = tuple(f"{section}.{name}" for name in _keys_at(section.split("."), schema))
    return beside or tuple(schema.model_fields)


def _keys_at(path: Sequence[str], schema: type[Any]) -> tuple[str, ...]:
    """The keys of the section, or of the list of sections, at a path; empty if there is no such section."""
    for name in path:
        listed = get_args(schema.model_fields[name].annotation)[:1] if name in schema.model_fields else ()
        inner = sections_of(schema, name) or [
            one for one in listed if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        if not inner:
            return ()
        schema = inner[0]
    return tuple(schema.model_fields)


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
