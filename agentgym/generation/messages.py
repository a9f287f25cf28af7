"""What the message of a server says, as one answer of a policy: text, private thoughts, and calls of tools.

Some servers take the calls of tools that a model writes out of its text, and leave nothing there. They are put back, so
that the format of the episode reads them: as an action where the environment has such a tool, else as JSON. None is
lost, and none is taken alone where there are several.
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


def _with_calls(content: str, calls: Sequence[Mapping[str, Any]], episode: Episode) -> str:
    written = [json.dumps(call, ensure_ascii=False) for call in calls]
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
    """The calls of a message as ``{"name": ..., "arguments": ...}``."""
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
    return {"name": inner.get("name"), "arguments": {} if arguments is None else arguments}


def _parts(message: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _text(content: object) -> str:
    """The text of a message: a string, parts of which only those of text count, or nothing."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
