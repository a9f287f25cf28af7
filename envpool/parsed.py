"""An answer taken apart, as every format gives it."""

from __future__ import annotations

from dataclasses import dataclass

from envpool.types import Call


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer taken apart.

    Attributes:
        thought: why the policy acts.
        action: the text of what it does.
        calls: the calls of tools that make the action, where the format or the environment is of calls.
    """

    thought: str
    action: str
    calls: tuple[Call, ...] = ()
