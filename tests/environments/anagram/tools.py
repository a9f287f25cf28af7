"""The actions of Anagram."""

from __future__ import annotations

from envpool import tool


@tool("{word}")
def guess(word: str) -> None:
    """guesses a word"""
