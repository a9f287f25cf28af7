"""The world of Anagram."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from envpool import Step, UnknownTask

OWN = Path(__file__).parent / "data" / "words.txt"


class Words:
    """The words of a list by task index; of the list that ships with it if there is no file."""

    def __init__(self, file: Path | None) -> None:
        self._words = tuple((file or OWN).read_text("utf-8").split())

    def __len__(self) -> int:
        return len(self._words)

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise UnknownTask(f"anagram has no task {index}: take one of 0 to {len(self) - 1}")
        return self._words[index]


def open_words(file: Path | None, log: Path | None) -> Words:
    """Opens a list; sessions of a process share it."""
    if log is not None:
        with log.open("a") as lines:
            lines.write(f"{os.getpid()}\n")
    return Words(file)


class Anagram:
    """One game."""

    def __init__(self, words: Words, *, hint: str = "none", lives: int = 3) -> None:
        self._words, self._hint, self._most = words, hint, lives

    def reset(self, index: int) -> str:
        self.word, self._lives = self._words[index], self._most
        begins = f" It begins with {self.word[0]}." if self._hint == "first" else ""
        return f"Letters: {' '.join(sorted(self.word))}.{begins}"

    def step(self, action: str) -> Step:
        if action.strip() == self.word:
            return Step("That is it.", 1.0, True)
        if action.strip() not in set(self._words):
            return Step("That is not a word of the list.", 0.0, False)
        self._lives -= 1
        return Step(f"No. {self._lives} left.", 0.0, self._lives <= 0)

    def available_actions(self) -> Sequence[str]:
        return list(self._words)

    def close(self) -> None:
        pass
