"""One message of a conversation, in any of the spellings of public data sets.

Who speaks stands in ``role`` or ``from``, what is said in ``content`` or ``value``: a text, or a list of parts such as
``{"type": "text", "text": ...}``. Tables below say which words name whom and which keys are read. What a message holds
besides is named, never dropped without a word: it raises, or its key is reported as one that is not read.

- Thoughts (`THOUGHTS`, parts of type ``thinking``) go before the answer, between ``<think>`` and ``</think>``, once.
- A call of a tool (``tool_calls``, ``function_call``, parts of type ``tool_use``, speaker ``function_call``) becomes
  the text of the answer, as the format `function_calling` writes it: ``{"thought": ..., "name": ..., "arguments":
  {...}}``; `Message.called` holds it as data, for records whose tools are offered as data. What tools answer is an
  observation.
- A mark (`marks.py`) says whether an answer is learned from, and an ending (`ENDINGS`) whether it was cut.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentgym.data.called import CARRIED, Called, Carried, calls_in, parsed, read_called, read_carried, write_call
from agentgym.data.marks import EITHER, IN_PARTS, is_mark, of_parts, read_mark
from agentgym.modelserver.answers import AT_THE_LIMIT

SPEAKERS: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(
        ("tool", "function", "observation", "environment", "env", "ipython", "tool_response", "function_response"),
        "user",
    ),
    **dict.fromkeys(("tool_result", "function_result", "tool-response", "function-response"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "agent", "ai"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call", "function-call", "tool-call"), "assistant"),
}
"""Who speaks, by the words of public data. Whatever is no policy and no instruction speaks for the environment."""

_CALLERS = ("function_call", "tool_call", "function-call", "tool-call")
_ENVIRONMENT = {word for word, role in SPEAKERS.items() if role == "user"} - {"user", "human"}

THOUGHTS = (
    *("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_content", "thought", "thoughts"),
    *("think", "cot", "chain_of_thought", "rationale", "inner_monologue"),
)
"""Keys under which thoughts stand beside an answer."""

THOUGHT_LISTS = ("reasoning_details", "thinking_blocks")
"""Keys under which they stand as lists of blocks."""

THOUGHT_PARTS = ("thinking", "reasoning")
"""Types of the parts of a message that hold thoughts."""

THOUGHT_TEXTS = ("thinking", "reasoning", "text", "summary")
"""Keys of the text in such a block or part."""

_NO_TEXT = ("image", "images", "image_url", "video", "videos", "audio", "audios", "file", "files")
_LABELS = ("name", "id", "tool_call_id")

ENDINGS = ("finish_reason", "stop_reason")
"""Keys that say why an answer ended."""

_TEXT_PARTS = ("text", "input_text", "output_text")

_KNOWN = {
    *("role", "from", "content", "value", "tool_calls", "function_call", "refusal"),
    *("token_ids", "logprobs", "cut", "reasoning_beside", "tool_results"),
    *ENDINGS, *THOUGHTS, *THOUGHT_LISTS, *EITHER, *IN_PARTS, *_NO_TEXT, *_LABELS,
}  # fmt: skip

_BLOCK = re.compile(r"(\s*<think>(.*?)</think>\s*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        text: what is said; empty if several tools are called at once.
        learned: whether it is learned from, if a mark says so.
        spelling: ``from`` or ``role``: how its data set says who speaks.
        token_ids: the sampled tokens, where they are recorded.
        logprobs: their log-probabilities.
        beside: thoughts that came beside the text and are no part of it.
        cut: whether the answer ended at a length limit.
        called: the calls of an answer as data; None if it has none.
        carried: what this project recorded of the answer.
        results: what tools answered, each with the id of its call, in a message of theirs.
    """

    role: str
    text: str
    learned: bool | None = None
    spelling: str = "role"
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    beside: str = ""
    cut: bool = False
    called: Called | None = None
    carried: Carried | None = None
    results: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Content:
    """What the parts of a message hold."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    marks: list[bool | None] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)


def read_message(given: object, name: str, remarks: set[str]) -> Message:
    """Reads a message.

    Args:
        given: what JSON gave.
        name: what to call it, as in ``message 3``.
        remarks: gets what a user should know: keys that hold something and are not read.

    Raises:
        ValueError: something about it cannot be read; says what.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{name} is no object")
    if not {"role", "from"} & given.keys():
        raise ValueError(f"{name} has no 'role' and no 'from' (its keys: {_listed_keys(given)})")
    spelling = "role" if "from" not in given else "from"
    speakers = {SPEAKERS.get(str(given[key]).lower()) for key in ("role", "from") if given.get(key) is not None}
    if len(speakers) > 1:
        raise ValueError(f"{name} has both 'role' and 'from', which differ: keep one")
    speaker = _text(given, spelling, name).lower()
    role = SPEAKERS.get(speaker)
    if role is None:
        raise ValueError(f"{name} is from {speaker[:40]!r}, a speaker that is not known: {', '.join(SPEAKERS)}")
    for key in _NO_TEXT:
        if holds(given.get(key)):
            raise ValueError(f"{name} holds {key!r}: only text can be read")
    if holds(given.get("refusal")):
        raise ValueError(f"{name} holds a 'refusal' instead of an answer")
    content = _content(given, spelling, speaker, name, remarks)
    known = _KNOWN | CARRIED if "carried_out" in given else _KNOWN
    remarks.update(_not_read(key, "a message") for key in given.keys() - known if says(given[key]) and not is_mark(key))
    learned = read_mark(given, name)
    called: Called | None = None
    results: list[tuple[str, str]] = []
    if role == "assistant":
        text, called = _answer(given, content, speaker, name)
        learned = of_parts(content.marks, learned, name)
    else:
        text = _joined(content.texts, name, spelling)
        results = _results(given, content, speaker, text)
        mine = {*THOUGHTS, *THOUGHT_LISTS, "tool_calls", "function_call", "token_ids", "logprobs", "reasoning_beside"}
        remarks.update(_not_read(key, f"a message of {role!r}") for key in given.keys() & mine if holds(given[key]))
        if content.calls or content.thoughts:
            raise ValueError(f"{name} is from {speaker!r} and holds a call or thoughts, as only an answer does")
        if learned:
            remarks.add(f"mark a message of {role!r} as learned from, and only answers are")
        learned = None
    check_whole(text, name)
    ids, logprobs = _tokens(given, name) if role == "assistant" else (None, None)
    beside, cut = given.get("reasoning_beside") or "", given.get("cut") or False
    if not isinstance(beside, str) or not isinstance(cut, bool):
        raise ValueError(f"'reasoning_beside' or 'cut' of {name} is of a wrong type")
    check_whole(beside, name)
    cut = cut or any(given.get(key) in AT_THE_LIMIT for key in ENDINGS)
    return Message(
        role,
        text,
        learned,
        spelling,
        ids,
        logprobs,
        beside if role == "assistant" else "",
        cut,
        called,
        read_carried(given, name) if role == "assistant" else None,
        tuple(results),
    )


def _results(given: Mapping[str, Any], content: _Content, speaker: str, text: str) -> list[tuple[str, str]]:
    """What tools answered, with the ids of their calls."""
    listed = given.get("tool_results")
    if isinstance(listed, list) and all(isinstance(each, str) for each in listed):
        return [("", each) for each in listed]
    if speaker in _ENVIRONMENT and not content.results:
        return [(str(given.get("tool_call_id") or ""), text)]
    return content.results


def check_whole(text: str, name: str) -> None:
    """Makes sure that a text has no half characters (lone surrogates), which no file can hold.

    Raises:
        ValueError: it has.
    """
    if text != text.encode(errors="replace").decode():
        raise ValueError(f"{name} holds half a character")


def holds(value: Any) -> bool:
    """Whether a value holds something that could be lost."""
    return value is not None and value is not False and value not in ("", [], {})


def says(value: Any) -> bool:
    """Whether a value says something: it holds something, or is false, which may be a mark."""
    return value is False or holds(value)


def _content(given: Mapping[str, Any], spelling: str, speaker: str, name: str, remarks: set[str]) -> _Content:
    key = {"role": "content", "from": "value"}[spelling]
    other = {"content": "value", "value": "content"}[key]
    said = given.get(key)
    if said is None:
        said = given.get(other)
    elif holds(given.get(other)) and given[other] != said:
        raise ValueError(f"{name} has both 'content' and 'value': keep one")
    content = _Content()
    if said is None:
        return content
    if isinstance(said, dict) and speaker in _ENVIRONMENT and "type" not in said:
        said = json.dumps(said, ensure_ascii=False, default=str)  # what a tool answered
    for part in said if isinstance(said, list) else [said]:
        _read_part(part, content, f"{key!r} of {name}", remarks)
    return content


def _read_part(part: Any, content: _Content, name: str, remarks: set[str]) -> None:
    if isinstance(part, str):
        content.texts.append(part)
        content.marks.append(None)
        return
    if not isinstance(part, dict):
        raise ValueError(f"{name} is of a wrong type")
    part = {key: value for key, value in part.items() if value is not None}
    kind = part.get("type", "text" if "text" in part else None)
    read = {"type", *(key for key in part if is_mark(key))}
    content.marks.append(read_mark(part, f"a part of {name}"))
    if kind in _TEXT_PARTS:
        content.texts.append(_text(part, "text", name))
        read.add("text")
    elif kind in THOUGHT_PARTS:
        if content.texts or content.calls:
            raise ValueError(f"{name} holds thoughts behind the beginning of the answer")
        key = next((key for key in THOUGHT_TEXTS if key in part), "thinking")
        content.thoughts.append(_text(part, key, name))
        read |= {key, "signature"}
    elif kind == "tool_use":
        content.calls.append({"id": part.get("id"), "name": part.get("name"), "arguments": part.get("input")})
        read |= {"id", "name", "input"}
    elif kind == "tool_result":
        inner, before = part.get("content", ""), len(content.texts)
        for each in inner if isinstance(inner, list) else [inner]:
            _read_part(each, content, name, remarks)
        content.results.append((str(part.get("tool_use_id") or ""), "\n".join(content.texts[before:])))
        read |= {"tool_use_id", "content"}
    else:
        raise ValueError(f"{name} holds a part of type {_shown(kind)}: only text can be read")
    remarks.update(_not_read(key, "a part of a message") for key in part.keys() - read if says(part[key]))


def _answer(given: Mapping[str, Any], content: _Content, speaker: str, name: str) -> tuple[str, Called | None]:
    """The text of an answer: thoughts, then what is said, or the call that is made; and its calls as data."""
    thoughts = {"\n\n".join(content.thoughts)} if content.thoughts else set()
    thoughts |= {_text(given, key, name) for key in THOUGHTS if given.get(key)}
    thoughts |= {text for key in THOUGHT_LISTS if (text := _listed(given.get(key), f"{key!r} of {name}"))}
    calls = [*content.calls, *calls_in(given, name)]
    texts = content.texts
    if speaker in _CALLERS:
        found = parsed("".join(texts))
        calls += found if isinstance(found, list) else [found]
        texts = []
    text = "" if not texts and (calls or thoughts) else _joined(texts, name, "from" if "from" in given else "role")
    block = _BLOCK.fullmatch(text)
    before, rest = (block[1], block[3]) if block else ("", text)
    if thoughts:
        if len({thought.strip() for thought in thoughts}) > 1:
            raise ValueError(f"{name} holds thoughts under two keys that differ")
        (thought, *_) = sorted(thoughts)
        if block and block[2].strip() and block[2].strip() != thought.strip():
            raise ValueError(f"{name} holds thoughts in its text and others beside it")
        if not block or not block[2].strip():
            before = f"<think>\n{thought}\n</think>\n\n"
    if not calls:
        return before + rest, None
    called = read_called((before + rest).strip(), calls, given, name)
    (call, *more) = called.calls
    return "" if more else before + write_call(rest, call.tool, call.arguments), called


def _listed(value: Any, name: str) -> str:
    """The thoughts in a list of blocks; one that is encrypted has none."""
    if not holds(value):
        return ""
    if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
        raise ValueError(f"{name} is of a wrong type")
    found = [block[key] for block in value for key in THOUGHT_TEXTS if block.get(key)]
    if len(found) < len(value) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{name} holds thoughts that cannot be read")
    return "\n\n".join(found)


def _tokens(given: Mapping[str, Any], name: str) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    ids, logprobs = given.get("token_ids"), given.get("logprobs")
    if ids is not None and not _numbers(ids, int, 2**63 - 1):
        raise ValueError(f"'token_ids' of {name} are no list of whole numbers")
    if logprobs is not None and (ids is None or not _numbers(logprobs, int | float, math.inf)):
        raise ValueError(f"'logprobs' of {name} are no list of numbers, or have no 'token_ids'")
    if ids is not None and logprobs is not None and len(ids) != len(logprobs):
        raise ValueError(f"{name} has {len(ids)} 'token_ids' and {len(logprobs)} 'logprobs'")
    found = None if ids is None else tuple(ids), None if logprobs is None else tuple(map(float, logprobs))
    return found


def _numbers(values: Any, kind: Any, limit: float) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kind) and not isinstance(value, bool) and abs(value) <= limit for value in values
    )


def _joined(texts: Iterable[str], name: str, spelling: str) -> str:
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name} has no {'content' if spelling == 'role' else 'value'!r}")
    return "\n".join(texts)


def _text(given: Mapping[str, Any], key: str, name: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{name} has no {key!r}" if value is None else f"{key!r} of {name} is of a wrong type")
    return value


def _listed_keys(given: Mapping[str, Any]) -> str:
    return ", ".join(repr(str(key)[:40]) for key in list(given)[:6])


def _not_read(key: str, where: str) -> str:
    return f"have a key {key[:60]!r} in {where} that is not read"


def _shown(value: Any) -> str:
    return repr(value if not isinstance(value, str) else value[:40])[:60]
