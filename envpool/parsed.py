"""An answer taken apart, as every format gives it."""

from __future__ import annotations

from dataclasses import dataclass

from envpool.call import Call


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer taken apart.

    Attributes:
        thought: why it acts.
        action: the text of its action; of several calls, their texts one below the other.
        calls: its calls of tools, in order, where the format reads calls.
        texts: the text of each call, where there may be several.
    """

    thought: str
    action: str
    calls: tuple[Call, ...] = ()
    texts: tuple[str, ...] = ()
