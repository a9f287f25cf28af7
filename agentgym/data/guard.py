"""Keeps control tokens that a text spells out apart from those that a template writes, while both are put together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from agentgym.data.encoding import Piece

_STAND_INS = 0xF0000
"""The first of the private characters that stand in for control tokens."""


def guarding(marks: Collection[str]) -> re.Pattern[str]:
    """What matches control tokens, and characters that stand in for some."""
    spelt = map(re.escape, sorted(marks, key=len, reverse=True))
    return re.compile("|".join([*spelt, f"[{chr(_STAND_INS)}-{chr(_STAND_INS + 0xFFFD)}]"]))


class Guard:
    """Keeps control tokens that are spelt out in a text apart from those that a template writes.

    A character that nobody uses stands in for each of them while an answer is put together.

    Args:
        guarded: what matches the control tokens, see `guarding`.
    """

    def __init__(self, guarded: re.Pattern[str]) -> None:
        self._pattern = guarded
        self._texts: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """The text with stand-ins."""
        return self._pattern.sub(self._stand_in, text)

    def inside(self, value: Any) -> Any:
        """A value of JSON, with stand-ins in its texts."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self.inside(each) for key, each in value.items()}
        return [self.inside(each) for each in value] if isinstance(value, list | tuple) else value

    def pieces(self, written: str) -> Iterator[Piece]:
        """What was put together, with its texts again."""
        known = re.escape("".join(self._texts))
        for part in re.split(f"([{known}])", written) if known else [written]:
            yield self._texts.get(part, part), part not in self._texts

    def _stand_in(self, found: re.Match[str]) -> str:
        known = {text: stand_in for stand_in, text in self._texts.items()}
        stand_in = known.get(found[0]) or chr(_STAND_INS + len(self._texts))
        self._texts[stand_in] = found[0]
        return stand_in
