"""The actions of Anagram."""

from __future__ import annotations

from envpool import Tool

guess = Tool("guess", "{word}", "guesses a word")
