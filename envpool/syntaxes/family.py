"""What the families have in common: an answer taken apart, and JSON at a given place of a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from envpool.call import Call, Schema
from envpool.errors import MalformedAction
from envpool.objects import end_of_object, objects

NAMES = ("name", "function_name", "function", "tool_name")
ARGUMENTS = ("arguments", "parameters", "input", "args")


class Answer(NamedTuple):
    """An answer taken apart.

    Attributes:
        said: the text in front of the calls, private thoughts included, without white space around it.
        calls: what is called, in order; names and arguments are not checked yet.
    """

    said: str
    calls: tuple[Call, ...]


class Family(Protocol):
    """How the models of a family write calls of tools."""

    @property
    def name(self) -> str:
        """How reports call the family."""

    @property
    def several(self) -> bool:
        """Whether its chat templates take several calls in one answer."""

    @property
    def said_as(self) -> str | None:
        """The key of a message whose text its chat templates write in front of calls; None if they write none."""

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer, from behind the template's header up to the token that ends it."""

    def read(self, text: str, tools: Sequence[Schema] = ()) -> Answer | None:
        """Reads an answer of this family; None if it holds no call.

        Args:
            text: the answer.
            tools: what was offered; tells the types of arguments that the family writes without quotes.

        Raises:
            MalformedAction: a call cannot be read.
        """


Types = Mapping[str, Mapping[str, Any]]
"""The JSON Schema of each parameter, by the names of tool and parameter."""

Scan = Callable[[str, int, Types], tuple[list[Call], int]]
"""Reads the calls that begin at a place of a text; returns them and the place where they end.

It raises MalformedAction where they cannot be read.
"""


def types_of(tools: Sequence[Schema]) -> Types:
    """Finds the schemas of all parameters."""
    functions = [tool.get("function", tool) for tool in tools]
    return {one["name"]: one.get("parameters", {}).get("properties", {}) for one in functions}


def dump(value: Any) -> str:
    """Writes JSON as chat templates do."""
    return json.dumps(value, ensure_ascii=False)


def skip(text: str, place: int, what: str = " \t\r\n") -> int:
    """The place behind some characters."""
    while place < len(text) and text[place] in what:
        place += 1
    return place


def object_at(text: str, place: int) -> tuple[dict[str, Any], int]:
    """Reads the JSON object that begins at a place.

    Raises:
        MalformedAction: there is none, or it cannot be read.
    """
    end = end_of_object(text, place) if text.startswith("{", place) else place
    found, broken = objects(text[place:end])
    if not found and not text[place + 1 : end - 1].strip() and end > place:
        return {}, end  # `objects` passes over empty ones
    if not found:
        raise broken or MalformedAction(
            f"Write the arguments of a call as a JSON object, not as {shown(text[place:])}."
        )
    return found[0].value, end


def objects_at(text: str, place: int, between: str) -> tuple[list[dict[str, Any]], int]:
    """Reads JSON objects that follow each other, or a list of them.

    Args:
        text: the answer.
        place: where they begin.
        between: characters that may stand between two objects.
    """
    listed = text.startswith("[", place)
    place = skip(text, place + listed)
    found: list[dict[str, Any]] = []
    end = place
    while text.startswith("{", place):
        value, end = object_at(text, place)
        found.append(value)
        place = skip(text, end, between + ("," if listed else ""))
    if listed:
        place = skip(text, end)
        if not text.startswith("]", place):
            raise MalformedAction("Your list of calls does not end: close it with ].")
        end = place + 1
    return found, end


def call_of(value: Any) -> Call:
    """Makes a call of a JSON object that holds a name and arguments.

    Raises:
        MalformedAction: it does not.
    """
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), "").strip()
    if not name:
        raise MalformedAction('Your call names no tool: give its name as text under "name".')
    given = [value[key] for key in ARGUMENTS if value.get(key) is not None]
    if any(other != given[0] for other in given[1:]):
        raise MalformedAction(f'Give the arguments of {name[:40]} once, under "arguments".')
    arguments = given[0] if given else {}
    if isinstance(arguments, str):  # as OpenAI's API gives them
        text = arguments.strip()
        arguments, end = object_at(text, 0) if text else ({}, 0)
        if end < len(text):
            raise MalformedAction(f'The "arguments" of {name[:40]} must be one JSON object.')
    if not isinstance(arguments, dict):
        raise MalformedAction(f'The "arguments" of {name[:40]} must be a JSON object that holds them by name.')
    return Call(name, arguments)


def is_call(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object can only be a call."""
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    return isinstance(inner.get("name"), str) and any(key in inner for key in ARGUMENTS[:2])


def shown(text: str) -> str:
    """The beginning of a text for a correction."""
    line = text.strip().partition("\n")[0]
    return repr(line if len(line) <= 40 else f"{line[:37]}...")
