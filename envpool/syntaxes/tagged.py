"""Families that write every argument between tags of its own: Qwen3-Coder, Qwen3.5 and later, Nemotron 3, GLM-4.5.

Texts stand there without quotes, so that only a tool's schema tells the text ``75`` from the number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envpool.call import Call
from envpool.errors import MalformedAction
from envpool.syntaxes.family import Scan, Types, call_of, dump, object_at, objects_at, shown, skip
from envpool.syntaxes.find import Reading

_NAME = re.compile(r"\s*([^>\s]+)\s*>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>")
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=|</function>|</tool_call>|\Z))")
_GLM_NAME = re.compile(r"([\w.-]+)\s*(?=<arg_key>|</tool_call>)")
_GLM_ARGUMENT = re.compile(r"\s*<arg_key>([^<]*)</arg_key>\s*<arg_value>")
_GLM_VALUE_END = re.compile(r"</arg_value>(?=\s*(?:<arg_key>|</tool_call>|\Z))")
_WORDS = {"True": True, "False": False, "None": None}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def tagged_call(text: str, place: int, types: Types) -> tuple[Call, int]:
    """Reads a call from behind ``<function=``; also Llama's, whose arguments are one JSON object.

    Raises:
        MalformedAction: it cannot be read.
    """
    name = _NAME.match(text, place)
    if name is None:
        raise MalformedAction(f"Name a tool as in <function=NAME>, not {shown(text[place:])}.")
    arguments: dict[str, Any] = {}
    place = end = name.end()
    start = skip(text, place)
    if text.startswith("{", start):
        arguments, end = object_at(text, start)
        after = skip(text, end)
        return Call(name[1], arguments), after + len("</function>") if text.startswith("</function>", after) else end
    while parameter := _PARAMETER.match(text, end):
        close = _VALUE_END.search(text, parameter.end())
        if close is None:
            raise MalformedAction(f"The parameter {parameter[1][:40]!r} does not end: close it with </parameter>.")
        raw = text[parameter.end() : close.start()].removeprefix("\n").removesuffix("\n")
        key = parameter[1].strip()
        if key in arguments:
            raise MalformedAction(f"Give the parameter {key[:40]!r} once.")
        arguments[key] = typed(raw, types.get(name[1], {}).get(key))
        end = close.end()
    after = skip(text, end)
    if not text.startswith("</function>", after):
        raise MalformedAction(f"Your call of {name[1][:40]} does not end: close it with </function>.")
    return Call(name[1], arguments), after + len("</function>")


def scan_function(text: str, place: int, types: Types) -> tuple[list[Call], int]:
    """Reads a call from behind ``<function=``."""
    call, end = tagged_call(text, place, types)
    return [call], end


def scan_tool_call(text: str, place: int, types: Types) -> tuple[list[Call], int]:
    """Reads what stands behind ``<tool_call>``: JSON as Hermes, or tags as Qwen3-Coder or GLM."""
    place = skip(text, place)
    if text.startswith("<function=", place):
        call, end = tagged_call(text, place + len("<function="), types)
        found = [call]
    elif text.startswith(("{", "["), place):
        values, end = objects_at(text, place, " \t\r\n,")
        found = [call_of(value) for value in values]
    elif name := _GLM_NAME.match(text, place):
        arguments, end = _glm_arguments(text, name.end(), types.get(name[1], {}))
        found = [Call(name[1], arguments)]
    else:
        raise MalformedAction(
            'Write a call as {"name": ..., "arguments": {...}} between <tool_call> and </tool_call>, '
            f"not as {shown(text[place:]) if text[place:].strip() else 'nothing'}."
        )
    close = skip(text, end)
    return found, close + len("</tool_call>") if text.startswith("</tool_call>", close) else end


def _glm_arguments(text: str, end: int, schemas: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    arguments: dict[str, Any] = {}
    while argument := _GLM_ARGUMENT.match(text, end):
        close = _GLM_VALUE_END.search(text, argument.end())
        key = argument[1].strip()
        if close is None:
            raise MalformedAction(f"The argument {key[:40]!r} does not end: close it with </arg_value>.")
        if key in arguments:
            raise MalformedAction(f"Give the argument {key[:40]!r} once.")
        arguments[key] = typed(text[argument.end() : close.start()], schemas.get(key))
        end = close.end()
    return arguments, end


def typed(raw: str, schema: Any) -> Any:
    """The value of an argument without quotes: what its schema says, or else JSON if it is some, or else a text."""
    allowed = _kinds(schema)
    if allowed == {"string"}:
        return raw
    try:
        value = _WORDS[raw.strip()] if raw.strip() in _WORDS else json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    if isinstance(value, str):  # a text in quotes of its own
        return raw
    if allowed and not any(_is_a(value, kind) for kind in allowed):
        return raw
    return value


def _kinds(schema: Any) -> set[str]:
    """The JSON types that a schema allows; empty if it does not tell."""
    if not isinstance(schema, Mapping):
        return set()
    if "enum" in schema:
        return {next((kind for kind in _KINDS if _is_a(value, kind)), "") for value in schema["enum"]}
    inner = [one for key in ("anyOf", "oneOf") for one in schema.get(key, ())]
    if inner:
        found = [_kinds(one) for one in inner]
        return set().union(*found) if all(found) else set()
    kind = schema.get("type")
    return set(kind) if isinstance(kind, list) else {kind} if isinstance(kind, str) else set()


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS.get(kind, ()))


@dataclass(frozen=True, slots=True)
class Tagged(Reading):
    """``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`` over several lines.

    Args:
        gap: what stands between the text and the first call.
        python: whether truth values and nothing are written as Python does.
    """

    name: str = "tagged"
    several: bool = True
    said_as: str | None = "content"
    gap: str = "\n\n"
    python: bool = False
    scans: ClassVar[Mapping[str, Scan]] = {"<tool_call>": scan_tool_call, "<function=": scan_function}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer. A text that is JSON itself comes back as a text only if the tool's schema says so."""
        written = "\n".join(map(self._one, calls))
        return said + (self.gap if said and written else "") + written

    def _one(self, call: Call) -> str:
        values = ((key, self._written(value)) for key, value in call.arguments.items())
        parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values)
        return f"<tool_call>\n<function={call.tool}>\n{parameters}</function>\n</tool_call>"

    def _written(self, value: Any) -> str:
        plain = isinstance(value, str) or (self.python and not isinstance(value, list | dict))
        return str(value) if plain else dump(value)


@dataclass(frozen=True, slots=True)
class Glm(Reading):
    """``<tool_call>name`` and lines of ``<arg_key>key</arg_key>`` and ``<arg_value>value</arg_value>``: GLM-4.5."""

    name: str = "glm"
    several: bool = True
    said_as: str | None = "content"
    scans: ClassVar[Mapping[str, Scan]] = {"<tool_call>": scan_tool_call}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer. A text that is JSON itself comes back as a text only if the tool's schema says so."""
        return "\n".join([*([said] if said else []), *map(self._one, calls)])

    def _one(self, call: Call) -> str:
        values = ((key, value if isinstance(value, str) else dump(value)) for key, value in call.arguments.items())
        arguments = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in values)
        return f"<tool_call>{call.tool}\n{arguments}</tool_call>"
