"""A call of a tool, and a tool as it is offered: words that all other modules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]
"""A tool as OpenAI's API describes it: ``{"type": "function", "function": {"name", "description", "parameters"}}``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool.

    Attributes:
        tool: its name.
        arguments: by name, in types that JSON has.
    """

    tool: str
    arguments: Mapping[str, Any] = field(hash=False)


Action = str | Call
"""What a session carries out: the text of an action, or a call of one of the environment's tools."""
