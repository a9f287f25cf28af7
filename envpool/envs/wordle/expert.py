"""The expert of Wordle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from envpool.envs.wordle.world import Guess, Wordle, feedback, words

OPENING = "slate"
"""The expert's first guess: of the four likely ones that were tried on all words it lost the fewest games."""

FEW = 40
"""Up to so many candidates the expert compares each with each, at most 40 * 40 comparisons a turn."""


def expert(game: Wordle) -> Iterator[tuple[str, str]]:
    """Only guesses words that fit all feedback so far; like any player it does not look at the secret."""
    while True:
        guesses = tuple(game.guesses)
        yield _summary(guesses), " ".join(_next_guess(guesses))


@lru_cache(maxsize=20_000)
def _next_guess(guesses: tuple[Guess, ...]) -> str:
    return _best(_fitting(guesses)) if guesses else OPENING


@lru_cache(maxsize=2_000)
def _fitting(guesses: tuple[Guess, ...]) -> Sequence[str]:
    if not guesses:
        return words()
    guess, marks = guesses[-1]
    return tuple(word for word in _fitting(guesses[:-1]) if feedback(guess, word) == marks)


def _best(candidates: Sequence[str]) -> str:
    """Returns the candidate whose feedback leaves the fewest others on average; among many, one with common letters."""
    if len(candidates) <= FEW:
        return min(candidates, key=lambda word: (_expected_rest(word, candidates), word))
    common = Counter(letter for word in candidates for letter in set(word))
    placed = Counter(pair for word in candidates for pair in enumerate(word))

    def commonness(word: str) -> int:
        return sum(common[letter] for letter in set(word)) + sum(placed[pair] for pair in enumerate(word))

    return max(candidates, key=lambda word: (commonness(word), word))


def _expected_rest(guess: str, candidates: Sequence[str]) -> int:
    parts = Counter(feedback(guess, word) for word in candidates)
    return sum(size * size for size in parts.values())


def _summary(guesses: Sequence[Guess]) -> str:
    """Writes what the guesses have shown, as in ``Known: _ r a _ e. Elsewhere: t. Not: s l.``."""
    known, elsewhere, absent = ["_"] * 5, dict[str, None](), dict[str, None]()
    for guess, marks in guesses:
        for place, (letter, mark) in enumerate(zip(guess, marks, strict=True)):
            if mark == "g":
                known[place] = letter
            else:
                (elsewhere if mark == "y" else absent)[letter] = None
    elsewhere = {letter: None for letter in elsewhere if letter not in known}
    absent = {letter: None for letter in absent if letter not in known and letter not in elsewhere}
    return f"Known: {' '.join(known)}. Elsewhere: {' '.join(elsewhere) or 'none'}. Not: {' '.join(absent) or 'none'}."
