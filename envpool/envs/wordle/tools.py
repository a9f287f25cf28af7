"""The actions of Wordle."""

from __future__ import annotations

from envpool.tools import tool


@tool("{word}")
def guess(word: str) -> None:
    """guesses a word, its letters separated by spaces, as in 'p a n i c'"""


TOOLS = (guess,)
