"""Private thoughts in an answer: where they end, and what comes after.

Reasoning models think between ``<think>`` and ``</think>``, or in front of ``</think>`` where their chat template opens
the thoughts. A draft of an action in there is none, so thoughts are taken off before an action is looked for; thoughts
that do not end hold no action yet. A tag in an argument of the action itself is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from envpool.errors import MalformedAction

_NAMES = r"(?:seed:|mm:|longcat_)?(?:think|thinking|thought|thoughts|reasoning|reflection)"

OPENS = re.compile(
    rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel\|>analysis<\|message\|>"
    r"|<\|channel>thought\b",
    re.IGNORECASE,
)
"""How thoughts begin: ``<think>`` and what public models write instead."""

ENDS = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<channel\|>|<\|channel\|>(?:final|commentary)[^<\n]{0,80}(?:<\|constrain\|>\w{0,20})?<\|message\|>",
    re.IGNORECASE,
)
"""How thoughts end."""

MOST_ENDS = 8
"""How many ends of thoughts in one answer are tried, the last ones; each costs another reading of the answer."""

_TURN_ENDS = (
    *("</s>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>", "<|call|>"),
    *("<|eot|>", "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
)

_ENDLESS = "No action found: your private thoughts do not end; close them and give your action."

T = TypeVar("T")


class NothingFound(MalformedAction):
    """There is nothing in the answer that could be an action."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found in a text.

    Attributes:
        what: the action, or what it is made of.
        start: where it begins.
        end: where it ends; tags in it are text.
    """

    what: T
    start: int
    end: int


def past_thoughts(text: str, find: Callable[[str], Found[T]]) -> tuple[str, T]:
    """Finds what comes after the private thoughts.

    Args:
        text: an answer.
        find: finds it in a text without thoughts, or raises MalformedAction.

    Returns:
        The text in front of it, without private thoughts and tags, and what was found.

    Raises:
        MalformedAction: it is not there, or the thoughts do not end.
    """
    text = without_turn_end(text)
    if not may_hold_tags(text):
        found = find(text)
        return text[: found.start].strip(), found.what
    begins = [0, *(tag.end() for tag in ENDS.finditer(text))]
    begins = [0, *begins[1:][-MOST_ENDS:]]
    trouble: MalformedAction | None = None
    for begin in begins:
        rest = text[begin:]
        try:
            found = find(rest)
        except MalformedAction as malformed:
            # a tag without thoughts before it may stand in an action that cannot be read, and was the first trouble
            if not (trouble and isinstance(malformed, NothingFound) and not OPENS.search(text)):
                trouble = malformed
            continue
        if ENDS.search(rest, 0, found.start) or ENDS.search(rest, found.end):
            continue  # it is a draft
        before = rest[: found.start]
        if OPENS.search(before):
            raise NothingFound(_ENDLESS)
        return before.strip(), found.what
    last = text[begins[-1] :].lstrip()
    assert trouble is not None  # nothing ends thoughts after the last begin, so what was found there was returned
    if OPENS.match(last) or (isinstance(trouble, NothingFound) and OPENS.search(last)):
        raise NothingFound(_ENDLESS)
    raise trouble


def may_hold_tags(text: str) -> bool:
    """Whether a text holds what a tag begins with; most answers do not, and are read faster."""
    return "<" in text or "[" in text or "\u25c1" in text


def without_tags(text: str) -> str:
    """Takes the tags of private thoughts out of a text."""
    if not may_hold_tags(text):
        return text.strip()
    return ENDS.sub("", OPENS.sub("", text)).strip()


def with_escaped_tags(literals: str) -> str:
    """Writes the tags of private thoughts in JSON or Python so that nobody else takes them for tags."""
    for tags in (OPENS, ENDS):
        literals = tags.sub(lambda tag: f"\\u{ord(tag[0][0]):04x}{tag[0][1:]}", literals)
    return literals


def without_turn_end(text: str) -> str:
    """Takes off what ends a turn in a chat template, where it came out as text."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        word = ""
        if text.endswith(">", 0, end):
            word = next((word for word in _TURN_ENDS if text.endswith(word, 0, end)), "")
        if not word:
            return text[:end]
        end -= len(word)
