"""Wordle: guess a five-letter word in six tries.

The rules are those of LMRL-Gym's Wordle (arXiv 2311.18232) as AgentGym serves it (arXiv 2406.04151), except that the
secret is fixed by the task from the start and that repeated letters are marked as in the real game. Task `index` is
the word at that place of a fixed random order of ``data/wordle.txt``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib import resources

from envpool.errors import UnknownTask
from envpool.spec import EnvSpec, Facts, Tool, Writing
from envpool.types import Split, Step

INSTRUCTIONS = """\
You are playing Wordle: find a secret English word of five letters. You have six tries.

An action is a five-letter English word, its letters separated by spaces, as in: p a n i c

Each guess is answered with one mark per letter. g: the letter is right and in the right place. y: the word has the \
letter, but in another place. b: the word does not have the letter. A letter that you guess more often than the word \
has it is marked g or y only as often as the word has it.

Example: the secret is t r a i n. The guess p a n i c is answered b y y g b.

Something that is not in the word list is answered with: invalid word. It costs a try as well."""

BRIEF = "Wordle: guess the word."

TRIES = 6
"""Actions per game, invalid words included, as in the predecessor."""

SHARES = {Split.TRAIN: (0.0, 0.2), Split.EXPLORE: (0.2, 0.7), Split.EVAL: (0.7, 1.0)}
"""Which part of the words, in their order, belongs to which split."""

OPENING = "slate"
"""The expert's first guess: of the four likely ones that were tried on all words it lost the fewest games."""

FEW = 40
"""Up to so many candidates the expert compares each with each, at most 40 * 40 comparisons a turn."""

Guess = tuple[str, str]


@cache
def words() -> Sequence[str]:
    """The words by task index."""
    text = resources.files("envpool.envs").joinpath("data", "wordle.txt").read_text("ascii")
    # hashes order words at random, but alike under every version of Python
    return tuple(sorted(text.split(), key=lambda word: hashlib.sha256(f"wordle {word}".encode()).digest()))


@cache
def _known() -> frozenset[str]:
    return frozenset(words())


def _tasks(split: Split) -> Sequence[int]:
    first, last = SHARES[split]
    return range(round(first * len(words())), round(last * len(words())))


def _word(index: int) -> str:
    if not 0 <= index < len(words()):
        raise UnknownTask(f"wordle has no task {index}: take one of 0 to {len(words()) - 1}")
    return words()[index]


def _facts(index: int) -> Facts:
    word = _word(index)
    return {"repeats": len(word) - len(set(word))}


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
        self._secret = _word(index)
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


SPEC = EnvSpec(
    name="wordle",
    version="1",
    summary="guess a five-letter word in six tries",
    instructions=INSTRUCTIONS,
    brief=BRIEF,
    make=Wordle,
    tasks=_tasks,
    facts=_facts,
    max_turns=8,
    success_above=0.99,
    task_type="repeats",
    expert=expert,
    inline=True,
    writing=Writing(signs="", lines=False),
    tools=(Tool("guess", "{word}", "guesses a word, its letters separated by spaces, as in 'p a n i c'"),),
)
