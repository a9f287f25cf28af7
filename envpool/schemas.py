"""Values by JSON Schema: what a schema asks for in words, and values read by it.

A value is read as what it must be meant to be (``"7"`` where a whole number is wanted, ``7`` where a text is) or
refused in words. What is read stays a value of JSON and is not changed otherwise: a whole number stays one where any
number is wanted. A text that UTF-8 cannot write, a number that is not finite, a whole number of more than `MOST_DIGITS`
digits and what is nested more than `DEEPEST` deep are refused, for some form of a call could not hold them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envpool.errors import did_you_mean

JsonSchema = Mapping[str, Any]
"""What a value may be, in the words of JSON Schema: ``type``, ``enum``, ``anyOf``, ``items``, ``properties`` and such;
an empty one allows anything."""

MOST_DIGITS = 4000
"""Python reads and writes whole numbers of at most 4,300 digits."""

DEEPEST = 50
"""How many lists and objects may lie within each other; Python's parser takes fewer than 100."""

_TOO_LARGE = 10**MOST_DIGITS
_NO_FLOAT = 10**308
_EXACT = 2**53
"""Whole numbers up to here are written exactly as a ``float``."""
_INT = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}")
_NUMBER = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?")
_TRUTHS = {"true": True, "True": True, "false": False, "False": False}
_TYPES = {
    "string": ("str", "a text"),
    "integer": ("int", "a whole number"),
    "number": ("float", "a number"),
    "boolean": ("bool", "true or false"),
    "null": ("None", "nothing"),
    "array": ("list", "a list"),
    "object": ("dict", "an object"),
}
"""How a type is called in Python, and in a sentence."""


_JSON_TYPES: Mapping[type, str] = {
    **{str: "string", bool: "boolean", int: "integer", float: "number"},
    **{type(None): "null", list: "array", dict: "object"},
}


class Wrong(ValueError):
    """A value that a schema does not allow.

    Attributes:
        place: where in the value it is, as in ``[2].name``; empty for the value itself.
    """

    def __init__(self, words: str, place: str = "") -> None:
        super().__init__(words)
        self.place = place


def options(schema: JsonSchema) -> Sequence[JsonSchema]:
    """The schemas of which a value fits one."""
    found = schema.get("anyOf", schema.get("oneOf"))
    return [schema] if found is None else [option for each in found for option in options(each)]


def choices(schema: JsonSchema) -> Sequence[Any] | None:
    """The values that are allowed, if they are listed."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def is_open_text(schema: JsonSchema) -> bool:
    """Whether a schema allows texts, and any text."""
    return any(option.get("type") == "string" and choices(option) is None for option in options(schema))


def types_in(schema: JsonSchema) -> set[str]:
    """The types of all values that a schema speaks of; ``object`` where it allows anything."""
    if "anyOf" in schema or "oneOf" in schema:
        return set().union(*map(types_in, options(schema)))
    if (allowed := choices(schema)) is not None:
        return {_JSON_TYPES[type(choice)] for choice in allowed}
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if schema.get("items") else [])]
    return {schema.get("type", "object")}.union(*map(types_in, inner))


def shown(schema: JsonSchema) -> str:
    """Writes a schema as a type of Python, as in ``list[int] | None``."""
    several = options(schema)
    if len(several) > 1:
        return " | ".join(map(shown, several))
    schema = several[0]
    if (allowed := choices(schema)) is not None:
        return " | ".join(map(repr, allowed))
    if "properties" in schema:
        needed = schema.get("required", ())
        fields = (f"{name}{'' if name in needed else '?'}: {shown(of)}" for name, of in schema["properties"].items())
        return f"{{{', '.join(fields)}}}"
    name = _TYPES[schema["type"]][0] if schema.get("type") in _TYPES else "Any"
    if "prefixItems" in schema:
        return f"{name}[{', '.join(map(shown, schema['prefixItems']))}]"
    if schema.get("items"):
        return f"{name}[{shown(schema['items'])}]"
    further = schema.get("additionalProperties")
    return f"{name}[str, {shown(further)}]" if isinstance(further, Mapping) and further else name


def wanted(schema: JsonSchema) -> str:
    """Says what a schema asks for, as in ``a text or a number``."""
    words: list[str] = []
    for option in options(schema):
        allowed = choices(option)
        words += map(repr, allowed) if allowed is not None else [_TYPES.get(option.get("type", ""), ("", "a value"))[1]]
    words = list(dict.fromkeys(words))
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def sample(schema: JsonSchema, name: str) -> Any:
    """A value that stands in for one of the schema in an example."""
    schema = options(schema)[0]
    if known := schema.get("examples") or choices(schema):
        return known[0]
    match schema.get("type"):
        case "integer":
            return max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "number":
            return 1.5
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [sample(schema.get("items", {}), name)]
        case "object":
            fields = schema.get("properties", {})
            return {field: sample(fields[field], field) for field in schema.get("required", ())}
    return f"<{name}>"


def brief(value: Any) -> str:
    """Names a value in a sentence."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode("utf-8")
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return "too large a number"
    known = {list: "a list", dict: "an object", type(None): "nothing"}
    text = known.get(type(value)) or repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read(schema: JsonSchema, value: Any, depth: int = 0) -> Any:
    """Reads a value by a schema.

    Raises:
        Wrong: it is something else.
    """
    if depth > DEEPEST:
        raise Wrong(f"is nested more than {DEEPEST} deep")
    several = options(schema)
    if len(several) > 1:
        return _read_either(schema, several, value, depth)
    schema = several[0]
    if (allowed := choices(schema)) is not None:
        return _read_choice(schema, allowed, value)
    match schema.get("type"):
        case "array" if isinstance(value, list):
            return [_at(f"[{n}]", read, schema.get("items", {}), item, depth + 1) for n, item in enumerate(value)]
        case "object" if isinstance(value, dict):
            return _read_object(schema, value, depth)
        case None:
            return _read_anything(value, depth)
        case str(kind) if kind in _SCALARS:
            try:
                return _SCALARS[kind](value)
            except _Other:
                pass
    raise Wrong(f"is {brief(value)}, not {wanted(schema)}")


class _Other(Exception):
    """A value of another type."""


def _at(place: str, read_it: Callable[..., Any], *args: Any) -> Any:
    try:
        return read_it(*args)
    except Wrong as wrong:
        raise Wrong(str(wrong), place + wrong.place) from None


def _read_either(schema: JsonSchema, several: Sequence[JsonSchema], value: Any, depth: int) -> Any:
    """Reads a value as the first option that it fits as it is, else as the first that it can be meant as."""
    meant: list[Any] = []
    troubles: list[Wrong] = []
    for option in several:
        try:
            found = read(option, value, depth)
        except Wrong as wrong:
            troubles.append(wrong)
            continue
        if found == value and type(found) is type(value):
            return found
        meant.append(found)
    if meant:
        return meant[0]
    within = [wrong for wrong in troubles if wrong.place]
    if len(within) == 1:
        raise within[0]
    raise Wrong(f"is {brief(value)}, not {wanted(schema)}")


def _read_choice(schema: JsonSchema, allowed: Sequence[Any], value: Any) -> Any:
    for choice in allowed:
        if choice == value and type(choice) is type(value):
            return choice
    text = value.strip() if isinstance(value, str) else None
    for choice in allowed:
        if text is not None and text == (choice if isinstance(choice, str) else json.dumps(choice)):
            return choice
    near = did_you_mean(text, [choice for choice in allowed if isinstance(choice, str)]) if text else ""
    raise Wrong(f"is {brief(value)}, not {wanted(schema)}{near}")


def _read_object(schema: JsonSchema, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    known: Mapping[str, JsonSchema] = schema.get("properties", {})
    further = schema.get("additionalProperties", "properties" not in schema)
    found: dict[str, Any] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise Wrong(f"holds {brief(name)} as a name, not a text")
        of: JsonSchema | None = known.get(name, {} if further is True else further or None)
        if of is None:
            raise Wrong(f"has no field {brief(name)}{did_you_mean(name[:40], known)}")
        found[_text(name)] = _at(f".{name[:40]}", read, of, item, depth + 1)
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        raise Wrong(f"needs the field {missing[0]!r}")
    return found


def _read_anything(value: Any, depth: int) -> Any:
    if type(value) not in _JSON_TYPES:
        raise Wrong(f"is {brief(value)}, which JSON does not have")
    return read({"type": _JSON_TYPES[type(value)]}, value, depth)


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(_int(value) if isinstance(value, int) else _number(value))
    if not isinstance(value, str):
        raise _Other
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Wrong(f"holds half a character, {value[error.start]!a}: write the whole one, or leave it out") from None
    return value


def _int(value: Any) -> int:
    if isinstance(value, str) and _INT.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_LARGE:
        return value
    raise _Other


def _number(value: Any) -> int | float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value) if "." in value else int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= _NO_FLOAT:
            raise Wrong("has too many digits: give a number of at most 308")
        return value
    raise _Other


def _truth(value: Any) -> bool:
    if isinstance(value, str) and value.strip() in _TRUTHS:
        return _TRUTHS[value.strip()]
    if not isinstance(value, bool):
        raise _Other
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise _Other


_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "string": _text,
    "integer": _int,
    "number": _number,
    "boolean": _truth,
    "null": _nothing,
}
