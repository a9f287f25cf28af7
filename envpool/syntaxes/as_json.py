"""Families that write calls as JSON: Hermes and Qwen, Llama, Mistral."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from envpool.call import Call
from envpool.errors import MalformedAction
from envpool.syntaxes.family import Scan, Types, call_of, dump, object_at, objects_at, shown, skip
from envpool.syntaxes.find import Reading
from envpool.syntaxes.tagged import scan_function, scan_tool_call

_NAME = re.compile(r"[\w.-]+")
_ID = re.compile(r"[\w-]*")


def scan_python_tag(text: str, place: int, types: Types) -> tuple[list[Call], int]:
    """Reads the JSON behind Llama's ``<|python_tag|>``."""
    place = skip(text, place)
    if not text.startswith(("{", "["), place):
        raise MalformedAction(
            f'Call a tool as {{"name": ..., "parameters": {{...}}}}, not with code: {shown(text[place:])}.'
        )
    values, end = objects_at(text, place, " \t\r\n;,")
    return [call_of(value) for value in values], end


def scan_mistral(text: str, place: int, types: Types) -> tuple[list[Call], int]:
    """Reads what stands behind ``[TOOL_CALLS]``: a list, or a name with its arguments."""
    place = skip(text, place)
    if text.startswith(("[", "{"), place):
        values, end = objects_at(text, place, " \t\r\n,")
        return [call_of(value) for value in values], end
    name = _NAME.match(text, place)
    if name is None:
        raise MalformedAction(f"Name a tool behind [TOOL_CALLS], not {shown(text[place:])}.")
    place = skip(text, name.end())
    if text.startswith("[CALL_ID]", place):
        identity = _ID.match(text, place + len("[CALL_ID]"))
        place = skip(text, identity.end() if identity else place)
    if text.startswith("[ARGS]", place):
        place = skip(text, place + len("[ARGS]"))
    arguments, end = object_at(text, place)
    return [Call(name[0], arguments)], end


@dataclass(frozen=True, slots=True)
class Hermes(Reading):
    """``<tool_call>{"name": ..., "arguments": {...}}</tool_call>`` over several lines: Hermes, Qwen2.5, Qwen3."""

    name: str = "hermes"
    several: bool = True
    said_as: str | None = "content"
    scans: ClassVar[Mapping[str, Scan]] = {"<tool_call>": scan_tool_call}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer."""
        return "\n".join([*([said] if said else []), *map(self._one, calls)])

    def _one(self, call: Call) -> str:
        return f"<tool_call>\n{dump({'name': call.tool, 'arguments': dict(call.arguments)})}\n</tool_call>"


@dataclass(frozen=True, slots=True)
class Llama(Reading):
    """``{"name": ..., "parameters": {...}}`` and nothing else: Llama 3.1 and later; several are joined by ``;``."""

    name: str = "llama"
    several: bool = False
    said_as: str | None = None
    scans: ClassVar[Mapping[str, Scan]] = {"<|python_tag|>": scan_python_tag, "<function=": scan_function}
    bare: ClassVar[bool] = True

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer; its templates drop what is said beside a call, this keeps it."""
        written = "; ".join(dump({"name": call.tool, "parameters": dict(call.arguments)}) for call in calls)
        return f"{said}\n\n{written}" if said and written else said + written


@dataclass(frozen=True, slots=True)
class Mistral(Reading):
    """``[TOOL_CALLS][{"name": ..., "arguments": {...}, "id": ...}]``: up to Mistral Small 3.1.

    Args:
        gap: what stands behind the mark.
        ids: whether calls have ids.
    """

    name: str = "mistral"
    several: bool = True
    said_as: str | None = None
    gap: str = ""
    ids: bool = True
    scans: ClassVar[Mapping[str, Scan]] = {"[TOOL_CALLS]": scan_mistral}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer; its templates drop what is said beside calls, this keeps it."""
        listed = [
            dump(
                {"name": call.tool, "arguments": dict(call.arguments), **({"id": call_id(number)} if self.ids else {})}
            )
            for number, call in enumerate(calls)
        ]
        return said + (f"[TOOL_CALLS]{self.gap}[{', '.join(listed)}]" if listed else "")


@dataclass(frozen=True, slots=True)
class MistralNamed(Reading):
    """``[TOOL_CALLS]name[ARGS]{...}``: from Mistral Small 3.2, Devstral and Magistral on.

    Args:
        ids: whether ``[CALL_ID]`` stands before the arguments.
    """

    name: str = "mistral with names"
    several: bool = True
    said_as: str | None = "content"
    ids: bool = False
    scans: ClassVar[Mapping[str, Scan]] = {"[TOOL_CALLS]": scan_mistral}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer."""
        return said + "".join(
            f"[TOOL_CALLS]{call.tool}{f'[CALL_ID]{call_id(number)}' if self.ids else ''}"
            f"[ARGS]{dump(dict(call.arguments))}"
            for number, call in enumerate(calls)
        )


def call_id(number: int) -> str:
    """The id of a call by its place in its answer, in the nine letters and digits that Mistral's templates demand."""
    return f"call{number:05d}"
