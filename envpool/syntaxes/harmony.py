"""GPT-OSS: messages in channels, ``<|channel|>commentary to=functions.find <|constrain|>json<|message|>{...}``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from envpool.call import Call, Schema
from envpool.errors import MalformedAction
from envpool.syntaxes.family import Answer, dump, object_at, skip
from envpool.syntaxes.find import INVENTED

LONGEST_HEADER = 200
"""Characters in front of a channel's mark, and behind it, that can belong to it; longer runs are text."""

_CHANNEL = "<|channel|>"
_BEHIND = re.compile(r"([^<]{0,200})(?:<\|constrain\|>[^<]{0,200})?<\|message\|>")
_RECIPIENT = re.compile(r"\bto=(\S+)")
_END = re.compile(r"<\|(?:end|call|return|start|channel)\|>")


def is_harmony(text: str) -> bool:
    """Whether a text is written in channels; most texts are not, and this is quick."""
    return _CHANNEL in text and _header(text, 0) is not None


def _header(text: str, start: int) -> tuple[str, int] | None:
    """Finds the next header: what it says, and where its message begins."""
    place = text.find(_CHANNEL, start)
    while place >= 0:
        if found := _BEHIND.match(text, place + len(_CHANNEL)):
            before = text[max(start, place - LONGEST_HEADER) : place]
            return f"{before[before.rfind('>') + 1 :]} {found[1]}", found.end()
        place = text.find(_CHANNEL, place + 1)
    return None


def read_harmony(text: str) -> Answer | None:
    """Reads an answer in channels; None if it holds no call.

    Raises:
        MalformedAction: a call cannot be read, or the answer holds a result of its own invention.
    """
    said: list[str] = []
    calls: list[Call] = []
    place, invented = 0, False
    while header := _header(text, place):
        says, begin = header
        recipient = _RECIPIENT.search(says)
        if recipient is None or recipient[1] in ("assistant", "all"):
            invented = invented or (recipient is not None and bool(calls))
            end = _END.search(text, begin)
            place = end.start() if end else len(text)
            if not calls:
                said.append(text[begin:place].strip())
            if end and end[0] not in ("<|start|>", "<|channel|>"):
                place = end.end()
            continue
        if invented:
            raise MalformedAction(INVENTED)
        start = skip(text, begin)
        name = recipient[1].removeprefix("functions.")
        empty = not text[start:] or _END.match(text, start)
        arguments, place = ({}, start) if empty else object_at(text, start)
        calls.append(Call(name, arguments))
    return Answer("\n\n".join(part for part in said if part), tuple(calls)) if calls else None


@dataclass(frozen=True, slots=True)
class Harmony:
    """GPT-OSS; what is said in front of a call is analysis.

    Args:
        first: whether the tool is named in front of the channel, as in its chat template, or behind it, as its models
            do.
    """

    name: str = "harmony"
    several: bool = False
    said_as: str | None = "content"
    first: bool = True

    def write(self, said: str, calls: Sequence[Call]) -> str:
        """Writes an answer."""
        if not calls:
            return f"<|channel|>final<|message|>{said}"
        analysis = [f"<|channel|>analysis<|message|>{said}<|end|>"] if said else []
        return "<|start|>assistant".join([*analysis, "<|call|><|start|>assistant".join(map(self._one, calls))])

    def read(self, text: str, tools: Sequence[Schema] = ()) -> Answer | None:
        """Reads an answer."""
        return read_harmony(text)

    def _one(self, call: Call) -> str:
        to = f"to=functions.{call.tool}"
        header = f" {to}<|channel|>commentary json" if self.first else f"<|channel|>commentary {to} <|constrain|>json"
        return f"{header}<|message|>{dump(dict(call.arguments))}"
