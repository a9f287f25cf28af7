"""The actions of Wordle."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (Tool("guess", "{word}", "guesses a word, its letters separated by spaces, as in 'p a n i c'"),)
