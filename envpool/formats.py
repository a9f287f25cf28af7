"""How a thought and an action are written in one answer, and read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from envpool.errors import MalformedAction


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer taken apart."""

    thought: str
    action: str


class ActionFormat(Protocol):
    """A way to write a thought and an action."""

    @property
    def name(self) -> str:
        """How recipes call the format."""

    @property
    def instructions(self) -> str:
        """What a model is told about the format."""

    def render(self, thought: str, action: str) -> str:
        """Writes an answer."""

    def parse(self, text: str) -> Parsed:
        """Reads an answer.

        Raises:
            MalformedAction: there is no readable action; the error's text is the correction to answer with.
        """


class ReAct:
    r"""``Thought:\n...\n\nAction:\n...``, the format of AgentTraj."""

    name = "react"
    instructions = "Answer in this form, with exactly one action:\n\nThought:\n<why you act>\n\nAction:\n<the action>"
    _ACTION = re.compile(r"^[ \t]*Action:", re.MULTILINE)

    def render(self, thought: str, action: str) -> str:
        """Writes an answer."""
        return f"Thought:\n{thought}\n\nAction:\n{action}"

    def parse(self, text: str) -> Parsed:
        """Reads the first line after the one ``Action:``."""
        parts = self._ACTION.split(text)
        if len(parts) > 2:
            raise MalformedAction(
                f"Give one action at a time: {len(parts) - 1} lines of your answer start with 'Action:'."
            )
        lines = parts[1].splitlines() if len(parts) == 2 else []
        action = next((line.strip() for line in lines if line.strip()), None)
        if action is None:
            raise MalformedAction("No action found: end your answer with a line 'Action:' and the action below it.")
        return Parsed(parts[0].strip().removeprefix("Thought:").strip(), action)


REACT = ReAct()
