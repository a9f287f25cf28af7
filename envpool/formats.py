"""The formats: how a thought and an action are written in one answer, and read back.

`ReAct` writes the action as text. `FunctionCalling`, `CodeAsAction` and `Native` write it as a call of one of the
environment's tools (see `calls.py`), so they are made for one environment; `format_for` makes any of them. Whatever a
model answers, reading it returns an action or raises `MalformedAction` with a correction for the model; nothing of it
is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from envpool.calls import Toolbox
from envpool.code_as_action import CodeAsAction
from envpool.errors import EnvPoolError, MalformedAction, did_you_mean
from envpool.function_calling import FunctionCalling
from envpool.labels import tamed, word_for_word
from envpool.native import Native
from envpool.parsed import Parsed
from envpool.reading import Reader
from envpool.spec import EnvSpec, Writing
from envpool.types import Action, Call

_ANY = Writing()


class ActionFormat(Protocol):
    """A way to write a thought and an action."""

    @property
    def name(self) -> str:
        """How recipes call the format."""

    @property
    def instructions(self) -> str:
        """What a model is told about the format."""

    def render(self, thought: str, action: Action) -> str:
        """Writes an answer."""

    def parse(self, text: str) -> Parsed:
        """Reads an answer.

        Raises:
            MalformedAction: there is no readable action; the error's text is the correction to answer with.
        """


class ReAct:
    r"""``Thought:\n...\n\nAction:\n...``, the format of AgentTraj; `envpool.reading` says what is read.

    Args:
        tools: the environment's tools.
        writing: what its actions may hold.
    """

    name = "react"
    instructions = "Answer in this form, with exactly one action:\n\nThought:\n<why you act>\n\nAction:\n<the action>"

    def __init__(self, tools: Toolbox, writing: Writing = _ANY) -> None:
        self._tools = tools
        self._reader = Reader(tools, writing)

    def render(self, thought: str, action: Action) -> str:
        """Writes an answer; an action that would be misread stands in a block that is taken word for word."""
        action = self._tools.text(action) if isinstance(action, Call) else action
        answer = f"Thought:\n{thought}\n\nAction:\n{action}"
        try:
            if self.parse(answer).action == action:
                return answer
        except MalformedAction:
            pass  # which says that it would be misread
        return f"Thought:\n{tamed(thought)}\n\nAction:\n{word_for_word(action)}"

    def parse(self, text: str) -> Parsed:
        """Reads the one action of the answer."""
        thought, action = self._reader.read(text)
        if not self._tools.takes_calls:
            return Parsed(thought, action)
        call = self._tools.call(action)
        return Parsed(thought, self._tools.text(call), (call,))


REACT = ReAct(Toolbox(()))
"""For an environment of which nothing is known; `format_for` makes one that knows its actions."""


FORMATS: Mapping[str, Callable[[EnvSpec], ActionFormat]] = {
    "react": lambda spec: ReAct(Toolbox.of(spec), spec.writing),
    "function_calling": lambda spec: FunctionCalling(Toolbox.of(spec)),
    "code_as_action": lambda spec: CodeAsAction(Toolbox.of(spec)),
    "native": lambda spec: Native(Toolbox.of(spec)),
}
"""What makes a format for an environment, by the name that recipes call it."""


def format_for(name: str, spec: EnvSpec) -> ActionFormat:
    """Makes a format for an environment.

    Raises:
        EnvPoolError: there is no format of that name.
    """
    check_format(name)
    return FORMATS[name](spec)


def check_format(name: str) -> None:
    """Makes sure that there is a format of that name.

    Raises:
        EnvPoolError: there is none.
    """
    if name not in FORMATS:
        raise EnvPoolError(f"unknown format {name!r}{did_you_mean(name, FORMATS)} (known: {', '.join(FORMATS)})")
