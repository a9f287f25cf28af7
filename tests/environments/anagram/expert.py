"""The expert of Anagram."""

from __future__ import annotations

from collections.abc import Iterator

from .world import Anagram


def expert(game: Anagram) -> Iterator[tuple[str, str]]:
    """Knows the word."""
    yield "I sort the letters in my head.", game.word
