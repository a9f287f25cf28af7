"""The format ``function_calling``: an answer is a call as a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from envpool.calls import Toolbox
from envpool.errors import MalformedAction
from envpool.objects import objects, whole_object
from envpool.parsed import Parsed
from envpool.thoughts import Found, NothingFound, past_thoughts, with_escaped_tags, without_tags
from envpool.types import Action, Call


class FunctionCalling:
    """One JSON object: ``{"thought": ..., "name": ..., "arguments": {...}}``.

    Args:
        tools: the environment's tools.
    """

    name = "function_calling"
    _NAMES = ("name", "function_name", "function")
    _ARGUMENTS = ("arguments", "parameters", "input", "args", "kwargs")
    _WRAPPING = re.compile(r"(```(json)?|<tool_call>)\s*\Z")

    def __init__(self, tools: Toolbox) -> None:
        self._tools = tools

    @property
    def instructions(self) -> str:
        """The shape of an answer, the functions, and an example."""
        example = self._tools.example
        return (
            'Act by calling a function. Answer with one JSON object: "thought" says why you act, "name" is the '
            f'function and "arguments" holds its arguments by name.\n\nThe functions are:\n{self._tools.signatures}\n\n'
            f'For example, the action "{self._tools.example_text}" is taken by:\n\n'
            f"{_json('<why you act>', example.tool, example.arguments)}"
        )

    def render(self, thought: str, action: Action) -> str:
        """Writes an answer: a call, that of a text being of the most exact tool that makes it."""
        call = self._tools.checked(action) if isinstance(action, Call) else self._tools.call(action)
        return _json(thought, call.tool, call.arguments)

    def parse(self, text: str) -> Parsed:
        """Reads the one call of the answer; also in the shapes of OpenAI, Llama, Qwen and AgentGym, and amid text."""
        before, call = past_thoughts(text, self._find)
        thought = call.get("thought") if isinstance(call, dict) else None
        if not isinstance(thought, str):
            thought = self._WRAPPING.sub("", before)
        made, action = self._tools.written(self._read(call))
        return Parsed(without_tags(thought), action, (made,))

    def _find(self, text: str) -> Found[Any]:
        calls: list[Found[Any]] = []
        found, broken = objects(text)
        for one in found:
            if isinstance(one.value.get("tool_calls"), list) and one.value["tool_calls"]:
                calls += [Found(call, one.start, one.end) for call in one.value["tool_calls"]]
            elif any(key in one.value for key in self._NAMES):
                calls.append(Found(one.value, one.start, one.end))
        if len(calls) > 1:
            raise MalformedAction(f"Give one function call at a time: your answer holds {len(calls)}.")
        if not calls:
            raise broken or NothingFound(
                'No function call found: answer with one JSON object that has a "name" and "arguments".'
            )
        return calls[0]

    def _read(self, call: Any) -> Call:
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            call = call["function"]
        call = call if isinstance(call, dict) else {}
        name = next((call[key] for key in self._NAMES if isinstance(call.get(key), str)), None)
        if name is None:
            raise MalformedAction('Your function call has no name: give the function as text under "name".')
        given = [call[key] for key in self._ARGUMENTS if call.get(key) is not None]
        if any(other != given[0] for other in given[1:]):
            raise MalformedAction(f'Give the arguments of {name[:40]} once, under "arguments".')
        arguments = given[0] if given else None
        if isinstance(arguments, str):
            arguments = _object_in(arguments)
        if not isinstance(arguments, dict | None):
            raise MalformedAction(f'The "arguments" of {name[:40]} must be a JSON object that holds them by name.')
        return Call(name.strip(), arguments or {})


def _object_in(text: str) -> Any:
    """Reads arguments that are given as text."""
    text = text.strip()
    if not text.startswith("{"):
        return {} if text in ("", "null", "None") else text
    return whole_object(text)


def _json(thought: str, name: str, arguments: Mapping[str, Any]) -> str:
    return with_escaped_tags(
        json.dumps({"thought": thought, "name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    )
