"""The tools that a record declares: data that was offered to its model, or functions that its instructions tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym.data.called import parsed
from agentgym.data.messages import Message
from envpool.syntaxes import split
from envpool.types import Schema

_MARK = "<tool_call>"


def offered(
    record: Mapping[str, Any], messages: Sequence[Message], environment: Sequence[Schema]
) -> tuple[Schema, ...]:
    """The tools that were offered as data.

    They are those that the record declares, if an answer calls one of them, or holds calls in the neutral spelling; or
    those of the environment, if an answer calls several of them at once, which text could not say.

    Args:
        record: what JSON gave.
        messages: its messages.
        environment: the tools of its environment.

    Returns:
        Schemas as OpenAI has them; none if calls are text.
    """
    declared = tuple(schema for each in _declared(record) if (schema := _schema(each)) is not None)
    if declared and isinstance(record.get("instructions"), str):
        return declared  # written by `exports`
    answers = [message for message in messages if message.role == "assistant"]
    known = _names(declared)
    if declared and any(known.intersection(_tools_of(answer)) or _is_marked(answer, declared) for answer in answers):
        return declared
    at_once = [set(_tools_of(answer)) for answer in answers if len(_tools_of(answer)) > 1]
    if at_once and all(tools <= _names(environment) for tools in at_once):
        return tuple(environment)
    return ()


def functions_told(record: Mapping[str, Any]) -> list[str]:
    """The declared functions as text, which chat templates write into the instructions."""
    if not (each := _declared(record)):
        return []
    functions = [tool["function"] if isinstance(tool, dict) and "function" in tool else tool for tool in each]
    lines = [text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in functions]
    return ["\n".join(["The functions are:", *lines])]


def _declared(record: Mapping[str, Any]) -> list[Any]:
    tools = next((record[key] for key in ("tools", "functions") if record.get(key)), None)
    if isinstance(tools, str):
        tools = parsed(tools) if parsed(tools) is not None else [tools]
    if not tools:
        return []
    return tools if isinstance(tools, list) else [tools]


def _schema(tool: Any) -> Schema | None:
    """A declared tool as OpenAI has it; None if it has no name."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    if function is not tool:
        return {"type": "function", **tool}
    given: Any = next((function[key] for key in ("parameters", "input_schema", "inputSchema") if function.get(key)), {})
    told = {"description": function["description"]} if function.get("description") else {}
    return {"type": "function", "function": {"name": function["name"], **told, "parameters": given}}


def _names(tools: Sequence[Schema]) -> set[str]:
    return {tool["function"]["name"] for tool in tools}


def _tools_of(answer: Message) -> list[str]:
    return [call.tool for call in answer.called.calls] if answer.called else []


def _is_marked(answer: Message, tools: Sequence[Schema]) -> bool:
    """Whether the text of an answer holds calls in the neutral spelling."""
    return answer.called is None and _MARK in answer.text and bool(split(answer.text, tools).calls)
