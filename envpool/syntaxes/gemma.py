"""Gemma's calls: ``call:name{key:value,...}``, texts between marks of their own, keys in order.

FunctionGemma writes ``<start_function_call>call:find{query:<escape>tea<escape>}<end_function_call>``, Gemma 4
``<|tool_call>call:find{query:<|"|>tea<|"|>}<tool_call|>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from envpool.call import Call
from envpool.errors import MalformedAction
from envpool.syntaxes.family import Scan, Types, shown, skip
from envpool.syntaxes.find import Reading

DEEPEST = 32
"""How many lists and objects may lie within each other."""

_QUOTES = ('<|"|>', "<escape>")
_CALL = re.compile(r"\s*(?:call:)?\s*([\w.-]+)\s*(?=\{)")
_KEY = re.compile(r"\s*([^:{}\[\],]*?)\s*:")
_LITERAL = re.compile(r"[^,}\]]*")
_WORDS = {"true": True, "false": False, "null": None, "None": None, "True": True, "False": False}
_ENDS = ("<end_function_call>", "<tool_call|>")


def scan_gemma(text: str, place: int, types: Types) -> tuple[list[Call], int]:
    """Reads a call from behind the mark that opens it."""
    called = _CALL.match(text, place)
    if called is None:
        raise MalformedAction(f"Write a call as call:NAME{{...}}, not as {shown(text[place:])}.")
    arguments, end = _object(text, called.end(), 0)
    close = skip(text, end)
    mark = next((mark for mark in _ENDS if text.startswith(mark, close)), None)
    return [Call(called[1], arguments)], close + len(mark) if mark else end


def _object(text: str, place: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    place = skip(text, place + 1)
    while not text.startswith("}", place):
        quoted = next((mark for mark in _QUOTES if text.startswith(mark, place)), None)
        if quoted:
            key, place = _quoted(text, place, quoted)
            place = skip(text, place)
            if not text.startswith(":", place):
                raise MalformedAction(f"Write a colon behind the name {key[:40]!r}.")
            place += 1
        elif name := _KEY.match(text, place):
            key, place = name[1], name.end()
        else:
            raise MalformedAction("Your call does not end: close its texts and braces.")
        if key in found:
            raise MalformedAction(f"Give the argument {key[:40]!r} once.")
        found[key], place = _value(text, skip(text, place), depth + 1)
        place = _behind_comma(text, place, "}")
    return found, place + 1


def _list(text: str, place: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    place = skip(text, place + 1)
    while not text.startswith("]", place):
        value, place = _value(text, place, depth + 1)
        found.append(value)
        place = _behind_comma(text, place, "]")
    return found, place + 1


def _behind_comma(text: str, place: int, close: str) -> int:
    place = skip(text, place)
    if text.startswith(",", place):
        return skip(text, place + 1)
    if not text.startswith(close, place):
        raise MalformedAction("Your call does not end: close its texts and braces.")
    return place


def _value(text: str, place: int, depth: int) -> tuple[Any, int]:
    if depth > DEEPEST:
        raise MalformedAction("Your call is nested too deeply.")
    if text.startswith("{", place):
        return _object(text, place, depth)
    if text.startswith("[", place):
        return _list(text, place, depth)
    quote = next((mark for mark in _QUOTES if text.startswith(mark, place)), None)
    if quote:
        return _quoted(text, place, quote)
    literal = _LITERAL.match(text, place)
    assert literal is not None  # it matches nothing, too
    word = literal[0].strip()
    if word in _WORDS:
        return _WORDS[word], literal.end()
    try:
        return json.loads(word), literal.end()
    except (ValueError, RecursionError):
        if not word:
            raise MalformedAction("An argument of your call has no value.") from None
        return word, literal.end()  # a text without its marks


def _quoted(text: str, place: int, quote: str) -> tuple[str, int]:
    start = place + len(quote)
    end = text.find(quote, start)
    if end < 0:
        raise MalformedAction(f"A text of your call does not end: close it with {quote}.")
    return text[start:end], end + len(quote)


@dataclass(frozen=True, slots=True)
class Gemma(Reading):
    """Gemma 4, and FunctionGemma with other marks. A text that holds the mark of texts cannot be written.

    Args:
        opens: the mark in front of a call.
        closes: the mark behind it.
        quote: the mark around texts.
        null: how nothing is written.
        thinks: marks around what is said in front of the calls; none if it is text.
    """

    name: str = "gemma"
    several: bool = True
    said_as: str | None = "reasoning_content"
    opens: str = "<|tool_call>"
    closes: str = "<tool_call|>"
    quote: str = '<|"|>'
    null: str = "null"
    thinks: tuple[str, str] = ("<|channel>thought\n", "\n<channel|>")
    scans: ClassVar[Mapping[str, Scan]] = {"<|tool_call>": scan_gemma, "<start_function_call>": scan_gemma}

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer."""
        thought = self.thinks[0] + said + self.thinks[1] if said and calls else said
        return thought + "".join(
            f"{self.opens}call:{call.tool}{self._written(dict(call.arguments))}{self.closes}" for call in calls
        )

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            return self.quote + value + self.quote
        if isinstance(value, dict):
            ordered = sorted(value.items(), key=lambda item: item[0].lower())  # as Jinja's dictsort does
            return "{" + ",".join(f"{key}:{self._written(each)}" for key, each in ordered) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(map(self._written, value)) + "]"
        return self.null if value is None else json.dumps(value)
