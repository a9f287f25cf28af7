"""The label ``Action:`` in an answer: where it stands, how it is decorated, and how text is written that holds none."""

from __future__ import annotations

import re

from envpool.thoughts import Found, without_tags

MARKDOWN = ("***", "**", "*", "``", "`")
"""What Markdown decorates words with, the longest first."""

_MARK = r"[*_`\"'\u201d\u2019\])]{0,3}"  # what may close a decoration in front of the colon
_LABEL = re.compile(
    rf"^(?P<marks>(?:(?!\n)[\W_]){{0,16}}(?:\d{{1,2}}[.)](?:(?!\n)[\W_]){{1,8}})?)"
    rf"action(?:[ \t]*\d{{1,3}})?{_MARK}[ \t]*[:\uff1a]"
    r"|^[ \t]*(?P<heading>#{1,6}[ \t]*|\*\*|#{1,6}[ \t]*\*\*)action(?:\*\*)?[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE = re.compile(
    rf"(?:(?<![^\s.!?;,):|>])[*_`\"']{{0,3}}A(?:ction|CTION)|(?<=[.!?;] )[*_`]{{0,3}}action){_MARK}[ \t]*[:\uff1a]"
)
_QUOTES = frozenset(">\"'`\u201c\u201d\u2018\u2019«»(")

_WORD_FOR_WORD = re.compile(r"\s*(`{4,64})[^\n`]*\n")


def labels_of(text: str) -> list[re.Match[str]]:
    """The labels of a text; quoted ones count only if there is no other, and those within a line come last."""
    plain: list[re.Match[str]] = []
    quoted: list[re.Match[str]] = []
    end = 0
    for label in _LABEL.finditer(text):
        if label.start() >= end:
            (quoted if _QUOTES.intersection(label["marks"] or "") else plain).append(label)
            block = block_below(text, label)
            end = block.end if block else label.end()
    return plain or quoted or list(_INLINE.finditer(text))


def block_below(text: str, label: re.Match[str]) -> Found[str] | None:
    """The block in four or more back quotes right below a label."""
    if "````" not in text:  # as in nearly all answers
        return None
    opening = _WORD_FOR_WORD.match(text, label.end())
    end = text.find(f"\n{opening[1]}", opening.end() - 1) if opening else -1
    if opening is None or end < 0:
        return None
    action = text[opening.end() : end].strip()
    return Found(action, label.start(), end + 1 + len(opening[1])) if action else None


def text_below(text: str, label: re.Match[str]) -> str:
    """What follows a label, without the end of a decoration that begins in front of it."""
    rest = text[label.end() :]
    for mark in (*MARKDOWN, "__", "_", '"', "'"):
        if label[0].count(mark) % 2:
            if rest.startswith(mark):
                return rest[len(mark) :].strip()
            line, gap, below = rest.lstrip().partition("\n")
            return (line.rstrip().removesuffix(mark) + gap + below).strip()
    return rest.strip()


def word_for_word(action: str) -> str:
    """Writes an action as a block that is taken word for word."""
    longest = max((len(run) for run in re.findall("`+", action)), default=0)
    marks = "`" * max(4, longest + 1)
    return f"{marks}\n{action}\n{marks}"


def tamed(thought: str) -> str:
    """Writes a thought so that nothing in it is taken for a label or for the end of private thoughts."""
    return _INLINE.sub(_dashed, _LABEL.sub(_dashed, without_tags(thought)))


def _dashed(label: re.Match[str]) -> str:
    return f"({label[0].strip()[:-1]})"
