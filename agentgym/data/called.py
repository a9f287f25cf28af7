"""The calls of tools in a message of public data, in the shapes of OpenAI, LlamaFactory, Hermes and Anthropic."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from envpool.syntaxes import HERMES
from envpool.types import Call

CARRIED = frozenset({"carried_out", "text", "info"})
"""Keys of an answer whose calls this project carried out."""


@dataclass(frozen=True, slots=True)
class Called:
    """The calls of an answer.

    Attributes:
        said: what is said in front of them, thoughts included.
        calls: the calls, in order.
        ids: what results name them by; empty texts where they have no ids.
        text: the whole answer: as it was written, where that is recorded, or else in the neutral spelling.
    """

    said: str
    calls: tuple[Call, ...]
    ids: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What this project records of an answer besides.

    Attributes:
        action: what was carried out; None if a correction came back.
        info: what the environment said besides.
    """

    action: str | None
    info: Mapping[str, Any] = field(default_factory=dict)


def parsed(text: str) -> Any:
    """What a text of JSON holds; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def write_call(thought: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Writes a call as the format `function_calling` does, whatever tools there are."""
    call = json.dumps({"thought": thought, "name": name, "arguments": dict(arguments)}, ensure_ascii=False, default=str)
    return call.replace("</think>", r"<\/think>")  # the same text in JSON, and no end of thoughts


def calls_in(given: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Finds what stands beside the text of a message, unread.

    Raises:
        ValueError: it is of a wrong type; says what.
    """
    calls = given.get("tool_calls")
    if isinstance(calls, str):
        calls = parsed(calls) if calls.strip() else None
        if calls is None and given["tool_calls"].strip():
            raise ValueError(f"'tool_calls' of {name} is no JSON")
    if calls:
        if not isinstance(calls, list):
            raise ValueError(f"'tool_calls' of {name} is of a wrong type")
        yield from calls
    if given.get("function_call"):
        yield given["function_call"]


def read_called(said: str, found: list[Any], given: Mapping[str, Any], name: str) -> Called:
    """Reads the calls of an answer.

    Args:
        said: what is said in front of them.
        found: the calls, unread.
        given: the message.
        name: what to call it.

    Raises:
        ValueError: a call has no name or no readable arguments.
    """
    calls = tuple(Call(*_call(each, name)) for each in found)
    ids = tuple(str(each.get("id") or "") if isinstance(each, dict) else "" for each in found)
    text = given.get("text") if "carried_out" in given else None
    return Called(said, calls, ids, text if isinstance(text, str) else HERMES.write(said, calls))


def read_carried(given: Mapping[str, Any], name: str) -> Carried | None:
    """Reads what this project recorded of an answer; None if it did not.

    Raises:
        ValueError: it is of a wrong type.
    """
    if "carried_out" not in given:
        return None
    action, info = given["carried_out"], given.get("info") or {}
    if not isinstance(action, str | None) or not isinstance(info, dict):
        raise ValueError(f"'carried_out' or 'info' of {name} is of a wrong type")
    return Carried(action, info)


def _call(call: Any, name: str) -> tuple[str, dict[str, Any]]:
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict) or not isinstance(called := call.get("name"), str) or not called:
        raise ValueError(f"{name} makes a call without the name of a function")
    arguments: Any = next((call[key] for key in ("arguments", "parameters", "input") if call.get(key) is not None), {})
    if isinstance(arguments, str):
        arguments = parsed(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{name} calls {called[:40]!r} with arguments that are no JSON object")
    return called, arguments
