"""A chat template with tools reduced to what it writes around messages, calls and their results.

As in `template.py`, the template is rendered once and cut at marks, and the pieces have to rebuild what it writes. How
it writes a call is not cut out: one of the families of `envpool.syntaxes` has to write calls in the very same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from envpool.syntaxes import Family
from envpool.types import Call


class Hole(StrEnum):
    """What is filled in between the texts of results."""

    NAME = "name"  # of the tool whose result follows
    ID = "id"  # of the call whose result follows
    LAST_NAME = "last_name"  # of the tool whose result it was
    LAST_ID = "last_id"


Pattern = tuple[str | Hole, ...]
"""What a template writes between texts, with holes."""


class Writing(StrEnum):
    """How a text is written."""

    AS_IT_IS = "as it is"
    TRIMMED = "without white space around it"
    JSON = "as JSON"
    TRIMMED_JSON = "as JSON without white space around it"

    def __call__(self, text: str) -> str:
        """Writes a text."""
        if self in (Writing.TRIMMED, Writing.TRIMMED_JSON):
            text = text.strip()
        return json.dumps(text, ensure_ascii=False) if self in (Writing.JSON, Writing.TRIMMED_JSON) else text


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands before the first user message, where certain tools are offered.

    Attributes:
        before: what stands before the system message.
        between: from the system message to the user's; None where the template takes no system message.
        alone: what stands before a user message without a system message.
    """

    before: str
    between: str | None
    alone: str | None


@dataclass(frozen=True, slots=True)
class Form:
    """How the answers of a kind are written behind a kind of prompt.

    Attributes:
        lead: what an answer begins with that has neither words nor thoughts before its calls.
        said: what stands around the words before its calls; None where the template leaves them out.
        think: what stands around its thoughts; None where it leaves them out.
        tail: what stands between an answer and its stop token.
    """

    lead: str
    said: tuple[str, str] | None
    think: tuple[str, str] | None
    tail: str


@dataclass(frozen=True, slots=True)
class ToolGlue:
    """What a chat template writes around messages, calls and results, whatever tools are offered.

    Attributes:
        family: how calls are written.
        several: whether an answer may hold several.
        calls: answers with calls, behind a user message and behind results (True).
        words: answers without calls, likewise.
        call_stop: the token behind calls.
        word_stop: the token behind an answer without calls.
        end: the token with which the model itself ends such an answer.
        later: from behind `word_stop` to a later user message.
        after_user: from a user message to where the model begins to write.
        first_result: from behind `call_stop` to the first result.
        next_result: from one result to the next; None where there is only one behind each call.
        after_results: from the last result to where the model begins to write.
        writings: how the texts of system messages, user messages and results are written, by ``s``, ``u`` and ``r``.
        written: all that the template wrote in the probes.
    """

    family: Family
    several: bool
    calls: Mapping[bool, Form]
    words: Mapping[bool, Form]
    call_stop: str
    word_stop: str
    end: str
    later: str
    after_user: str
    first_result: Pattern
    next_result: Pattern | None
    after_results: Pattern
    writings: Mapping[str, Writing]
    written: str = field(compare=False)

    def answer(self, thoughts: str, said: str, calls: Sequence[Call], *, after_results: bool) -> str:
        """An answer as the model writes it, without its stop token.

        Args:
            thoughts: private thoughts.
            said: words before the calls.
            calls: the calls.
            after_results: whether the prompt stands behind results.
        """
        form = (self.calls if calls else self.words)[after_results]
        if thoughts and form.think is None:  # then they are words as any other
            thoughts, said = "", f"<think>\n{thoughts}\n</think>\n\n{said}".rstrip()
        if thoughts and said and form.said is not None and form.said[0] != form.lead:  # both have one place
            thoughts, said = f"{thoughts}\n\n{said}", ""
        if said and not thoughts and form.said is None and form.think is not None:
            thoughts, said = said, ""
        written = self.family.write("", calls) if calls else ""
        if said and form.said is None:
            head, written = form.lead, self.family.write(said, calls)
        elif said:
            assert form.said is not None
            head, written = form.said[0], said + form.said[1] + written
        else:
            head = form.lead
        if thoughts:
            assert form.think is not None
            head = form.think[0] + thoughts + form.think[1]
        return head + written + form.tail

    def fill(self, pattern: Pattern, names: Mapping[Hole, str]) -> list[tuple[str, bool]]:
        """The pieces of a pattern: what the template wrote, and what fills its holes."""
        return [(names.get(part, ""), False) if isinstance(part, Hole) else (part, True) for part in pattern]
