"""What the message of a server says, as one answer of a policy: text, private thoughts, and calls of tools.

Some servers take the calls of tools that a model writes out of its text, and leave nothing there. They are put back, so
that the format of the episode reads them: as an action where the environment has such a tool, else as JSON. None is
lost, and none is taken alone where there are several.

Where tools are offered as data (format `native`), calls go back as data, too, under the ids that the server gave them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from agentgym.data.messages import THOUGHT_LISTS, THOUGHT_PARTS, THOUGHT_TEXTS, THOUGHTS
from envpool.errors import MalformedAction
from envpool.formats import ActionFormat, format_for
from envpool.policy import Episode
from envpool.syntaxes import HERMES, split, tamed
from envpool.types import Call, Message

_ARGUMENTS = ("arguments", "input", "parameters")


def thoughts(message: Mapping[str, Any]) -> str:
    """The private thoughts beside the text of a message, or in parts of it."""
    beside = next((text for key in THOUGHTS if (text := _text(message.get(key)))), "")
    parts = [part for kind in THOUGHT_PARTS for part in _parts(message, kind)]
    listed = [block for key in THOUGHT_LISTS if isinstance(blocks := message.get(key), list) for block in blocks]
    return beside or "".join(map(_thought, parts)) or "".join(map(_thought, listed))


def _thought(block: object) -> str:
    """The thoughts in a block; one that is encrypted has none."""
    found = block if isinstance(block, dict) else {}
    return next((text for key in THOUGHT_TEXTS if (text := _text(found.get(key)))), "")


def spoken(message: Mapping[str, Any], episode: Episode) -> str:
    """The text of a message with the calls of tools that came beside it, in a spelling that the format reads.

    Args:
        message: of the server.
        episode: whose answer it is.
    """
    content = _text(message.get("content")) or _text(message.get("refusal"))
    calls = _calls(message)
    return _with_calls(content, calls, episode) if calls else content


def spoken_natively(message: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The text of a message with its calls in the neutral spelling, and their ids, empty where they have none."""
    content = (_text(message.get("content")) or _text(message.get("refusal"))).strip()
    given = _calls(message)
    if not given:
        return content, []
    ids = [call["id"] for call in given]
    calls = tuple(Call(call["name"], call["arguments"]) for call in given if _is_sound(call))
    if len(calls) < len(given):  # to be corrected, with what is wrong
        return "\n".join([*([content] if content else []), *map(_as_it_came, given)]), ids
    if split(content).calls == calls:  # the same calls twice
        return content, ids
    text = HERMES.write(content, calls)
    return text if split(text).calls == calls else HERMES.write(tamed(content), calls), ids


def _is_sound(call: Mapping[str, Any]) -> bool:
    return isinstance(call["name"], str) and isinstance(call["arguments"], dict)


def _as_it_came(call: Mapping[str, Any]) -> str:
    arguments = call["arguments"]
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {json.dumps(call["name"])}, "arguments": {written}}}\n</tool_call>'


def as_openai(message: Message, ids: Sequence[str] = ()) -> dict[str, Any]:
    """A message as OpenAI's API has it.

    Args:
        message: the message.
        ids: the ids of the calls that the message makes; of a result, first the id of its call.
    """
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": ids[0], "content": message.content}
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        written["tool_calls"] = [
            {
                "id": name,
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
            }
            for call, name in zip(message.calls, ids, strict=True)
        ]
    return written


def _with_calls(content: str, calls: Sequence[Mapping[str, Any]], episode: Episode) -> str:
    written = [json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False) for call in calls]
    by_calls, own = format_for("function_calling", episode.spec), episode.format
    said = _action(content, own)
    actions = [_action(call, by_calls) for call in written]
    if said is not None and actions == [said]:
        return content  # the same call twice
    if own.name == by_calls.name:
        return "\n\n".join(part for part in (content, *written) if part.strip())
    if said is not None:  # with another action: to be read as two
        named = [action or call for action, call in zip(actions, written, strict=True)]
        return "\n\n".join([content, *(own.render("", action) for action in named)])
    read = [action for action in actions if action is not None]
    if len(read) < len(written):
        return "\n\n".join(part for part in (content, *written) if part.strip())
    thought = content.strip().removeprefix("Thought:").strip()
    return "\n\n".join(own.render(thought if n == 0 else "", action) for n, action in enumerate(read))


def _action(text: str, format: ActionFormat) -> str | None:
    try:
        return format.parse(text).action if text.strip() else None
    except MalformedAction:
        return None


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of a message as ``{"id": ..., "name": ..., "arguments": ...}``."""
    told = message.get("tool_calls")
    found = told if isinstance(told, list) and told else [message.get("function_call")]
    return [_call(one) for one in [*found, *_parts(message, "tool_use"), *_parts(message, "tool_call")] if one]


def _call(found: object) -> dict[str, Any]:
    outer: dict[str, Any] = found if isinstance(found, dict) else {"name": found}
    inner = next((outer[key] for key in ("function", "custom") if isinstance(outer.get(key), dict)), outer)
    arguments = next((inner[key] for key in _ARGUMENTS if key in inner), None)
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # what cannot be read is shown as it came, and corrected
            arguments = json.loads(arguments or "{}", strict=False)
    identity = outer.get("id")
    return {
        "id": identity if isinstance(identity, str) else "",
        "name": inner.get("name"),
        "arguments": {} if arguments is None else arguments,
    }


def _parts(message: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _text(content: object) -> str:
    """The text of a message: a string, parts of which only those of text count, or nothing."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
