"""The card of Anagram: find the word whose letters are shown in alphabetical order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from envpool import DataFile, EnvSpec, Split, option
from envpool.spec import Writing

from .expert import expert
from .tools import guess
from .world import Anagram, Words, open_words

BIG = DataFile(
    name="lists/big.txt",
    size=70,
    sha256="486c80cb94116422c81ff3ea65e88e648a095e7c65b648dec25b2688ac756e13",
    summary="ten words of the original",
    source="https://example.org/anagram",
)


@dataclass(frozen=True)
class Options:
    """What Anagram can be configured with."""

    words: Path | None = option(None, "file of words, one a line; the list that ships with it if null")
    original: Path | None = option(None, "folder of the original's lists, used instead of `words`", files=(BIG,))
    hint: Literal["none", "first"] = option("none", "what is told besides the letters")
    lives: int = option(3, "guesses that may be wrong")
    log: Path | None = option(None, "file that gets a line each time a list is opened", changes_tasks=False)


def card(options: Options) -> EnvSpec:
    """The card for some options."""
    file = options.words
    if options.original is not None:
        file = BIG.at(options.original)
    words = Words(file)

    def tasks(split: Split) -> Sequence[int]:
        return range(list(Split).index(split), len(words), 3)

    return EnvSpec(
        name="anagram",
        version="1",
        summary="find the word of some letters",
        instructions="Find the word whose letters you are shown. Each action is a word.",
        brief="Find the word.",
        make=partial(Anagram, hint=options.hint, lives=options.lives),
        shared=partial(open_words, file, options.log),
        tasks=tasks,
        facts=lambda index: {"length": len(words[index])},
        max_turns=5,
        success_above=0.5,
        expert=expert,
        task_type="length",
        difficulty="length",
        tools=(guess,),
        writing=Writing(signs="", lines=False),
        options=options,
        configure=card,
    )


SPEC = card(Options())
