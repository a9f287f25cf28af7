"""Finds calls in an answer: behind private thoughts, in order, by the marks that open them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from envpool.call import Call, Schema
from envpool.errors import MalformedAction
from envpool.objects import objects
from envpool.syntaxes.family import Answer, Scan, Types, call_of, is_call, types_of
from envpool.thoughts import ENDS, OPENS, Found, NothingFound, past_thoughts, without_turn_end

NO_CALL = "No tool call found: end your answer with a call of one of the tools that you are offered."
"""The correction of an answer without a call."""

INVENTED = "You wrote the result of a call yourself: end your answer with your calls, and wait for their results."
"""The correction of an answer that goes on with calls behind a result of its own invention."""

RESULTS = re.compile(
    r"<tool_response>|<\|tool_response>|<start_function_response>|\[TOOL_RESULTS\]|<\|start_header_id\|>ipython"
    r"|<\|start\|>(?:functions\.|tool\b)"
)
"""How results begin."""

_ANOTHER_TURN = re.compile(
    r"^\s*observation\s*:|<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|turn>", re.IGNORECASE | re.MULTILINE
)
_GEMMA_THOUGHT = re.compile(r"<\|channel>thought(.*?)<channel\|>(.*)", re.DOTALL)
_FENCE = re.compile(r"```\w*\s*\Z")
_BETWEEN = re.compile(r"[\s;,]*\Z")


class Reading:
    """The reading half of a family whose calls begin with a mark."""

    __slots__ = ()
    scans: ClassVar[Mapping[str, Scan]] = {}
    bare: ClassVar[bool] = False

    def read(self, text: str, tools: Sequence[Schema] = ()) -> Answer | None:
        """Reads an answer; see `Family.read`."""
        try:
            return read_marked(text, self.scans, tools, bare=self.bare)
        except NothingFound:
            return None


def read_marked(text: str, scans: Mapping[str, Scan], tools: Sequence[Schema] = (), *, bare: bool = True) -> Answer:
    """Reads an answer.

    Args:
        text: the answer.
        scans: what reads the calls behind each mark.
        tools: what was offered.
        bare: whether JSON objects that can only be calls are calls where there is no mark.

    Raises:
        NothingFound: it holds no call.
        MalformedAction: a call cannot be read.
    """
    text = without_turn_end(text)
    types = types_of(tools)
    marks = re.compile("|".join(map(re.escape, scans)))

    def find(rest: str) -> Found[tuple[tuple[Call, ...], int]]:
        mark = marks.search(rest)
        found = _within(rest, mark.start()) if bare and mark else None
        found = found or (_marked(rest, marks, scans, types) if mark else _bare(rest) if bare else None)
        start, end, calls = found or (0, 0, ())
        if not calls:
            raise NothingFound(NO_CALL)
        if not ENDS.search(rest, 0, start) and RESULTS.search(rest, 0, start):  # what a result holds is not a call
            raise MalformedAction(INVENTED)
        return Found((calls, len(rest) - start), start, end)

    _, (calls, left) = past_thoughts(text, find)
    said = _FENCE.sub("", text[: len(text) - left]).strip()
    if channel := _GEMMA_THOUGHT.fullmatch(said):
        said = "\n\n".join(part for part in map(str.strip, channel.groups()) if part)
    return Answer(said, calls)


_Calls = tuple[int, int, tuple[Call, ...]]


def _marked(text: str, marks: re.Pattern[str], scans: Mapping[str, Scan], types: Types) -> _Calls | None:
    calls: list[Call] = []
    first = end = 0
    while mark := marks.search(text, end):
        if calls:
            _check_between(text[end : mark.start()])
        else:
            first = mark.start()
        found, end = scans[mark[0]](text, mark.end(), types)
        calls += found
    return (first, end, tuple(calls)) if calls else None


def _within(text: str, place: int) -> _Calls | None:
    """Finds calls without a mark, if a place is within one of their texts."""
    try:
        found = _bare(text) if "{" in text[:place] else None
    except MalformedAction:
        return None
    return found if found and found[0] < place < found[1] else None


def _bare(text: str) -> _Calls | None:
    """Finds JSON objects that can only be calls."""
    found, broken = objects(text) if "{" in text else ([], None)
    calls = [one for one in found if is_call(one.value) or isinstance(one.value.get("tool_calls"), list)]
    if not calls:
        if broken and '"name"' in text:
            raise broken
        return None
    for one, other in itertools.pairwise(calls):
        between = text[one.end : other.start]
        _check_between(between)
        if not _BETWEEN.match(between):
            raise MalformedAction("Write your calls one below the other, with nothing in between.")
    values = [each for one in calls for each in one.value.get("tool_calls", [one.value])]
    return calls[0].start, calls[-1].end, tuple(map(call_of, values))


def _check_between(text: str) -> None:
    """Makes sure that calls belong to one answer.

    Raises:
        NothingFound: those in front of the text, or behind it, are a draft in private thoughts.
        MalformedAction: it is a result.
    """
    if ENDS.search(text) or OPENS.search(text):
        raise NothingFound(NO_CALL)
    if RESULTS.search(text) or _ANOTHER_TURN.search(text):
        raise MalformedAction(INVENTED)
