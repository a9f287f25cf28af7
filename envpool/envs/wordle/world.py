"""Wordle: guess a five-letter word in six tries.

The rules are those of LMRL-Gym's Wordle (arXiv 2311.18232) as AgentGym serves it (arXiv 2406.04151), except that the
secret is fixed by the task from the start and that repeated letters are marked as in the real game. Task `index` is
the word at that place of a fixed random order of ``data/words.txt``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from envpool.errors import UnknownTask
from envpool.types import Step

TRIES = 6
"""Actions per game, invalid words included, as in the predecessor."""

Guess = tuple[str, str]


@cache
def words() -> Sequence[str]:
    """The words by task index."""
    text = resources.files("envpool.envs.wordle").joinpath("data", "words.txt").read_text("ascii")
    # hashes order words at random, but alike under every version of Python
    return tuple(sorted(text.split(), key=lambda word: hashlib.sha256(f"wordle {word}".encode()).digest()))


@cache
def _known() -> frozenset[str]:
    return frozenset(words())


def word_of(index: int) -> str:
    """The word of a task.

    Raises:
        UnknownTask: the index names none.
    """
    if not 0 <= index < len(words()):
        raise UnknownTask(f"wordle has no task {index}: take one of 0 to {len(words()) - 1}")
    return words()[index]


def feedback(guess: str, secret: str) -> str:
    """Marks each letter of `guess`: g right place, y elsewhere, b not in `secret`, repeated letters counted."""
    marks = ["g" if letter == right else "b" for letter, right in zip(guess, secret, strict=True)]
    spare = [right for mark, right in zip(marks, secret, strict=True) if mark == "b"]
    for place, letter in enumerate(guess):
        if marks[place] == "b" and letter in spare:
            marks[place] = "y"
            spare.remove(letter)
    return "".join(marks)


class Wordle:
    """One game.

    Attributes:
        guesses: the valid guesses so far with their feedback, as in ``("panic", "bybbb")``.
    """

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, index: int) -> str:
        """Hides the word of task `index`.

        Raises:
            UnknownTask: the index names no task.
        """
        self._secret = word_of(index)
        self._tries = 0
        self._score = 0.0
        self.guesses: list[Guess] = []
        return "Guess the word."

    def step(self, action: str) -> Step:
        """Takes a guess; spaces between the letters and capital letters do not matter."""
        if self._over:
            return Step("The game is over.", self._score, True)
        self._tries += 1
        guess = "".join(action.lower().split())
        if guess not in _known():
            return Step("invalid word", 0.0, self._over)
        marks = feedback(guess, self._secret)
        self.guesses.append((guess, marks))
        self._score = float(guess == self._secret)
        return Step(" ".join(marks), self._score, self._over)

    def available_actions(self) -> Sequence[str]:
        """Every word of the list."""
        return _spelt_out()

    def close(self) -> None:
        """Nothing to free."""

    @property
    def _over(self) -> bool:
        return self._score == 1.0 or self._tries == TRIES


@cache
def _spelt_out() -> Sequence[str]:
    return tuple(map(" ".join, words()))
