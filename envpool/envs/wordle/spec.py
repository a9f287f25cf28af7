"""What is known of Wordle: what a model is told, its splits, and its card."""

from __future__ import annotations

from collections.abc import Sequence

from envpool.dialects import Dialect
from envpool.envs.wordle.expert import expert
from envpool.envs.wordle.tools import TOOLS
from envpool.envs.wordle.world import Wordle, word_of, words
from envpool.spec import EnvSpec, Facts, Place, Writing
from envpool.types import Split

INSTRUCTIONS = """\
You are playing Wordle: find a secret English word of five letters. You have six tries.

An action is a five-letter English word, its letters separated by spaces, as in: p a n i c

Each guess is answered with one mark per letter. g: the letter is right and in the right place. y: the word has the \
letter, but in another place. b: the word does not have the letter. A letter that you guess more often than the word \
has it is marked g or y only as often as the word has it.

Example: the secret is t r a i n. The guess p a n i c is answered b y y g b.

Something that is not in the word list is answered with: invalid word. It costs a try as well."""

BRIEF = "Wordle: guess the word."

SHARES = {Split.TRAIN: (0.0, 0.2), Split.EXPLORE: (0.2, 0.7), Split.EVAL: (0.7, 1.0)}
"""Which part of the words, in their order, belongs to which split."""


def _tasks(split: Split) -> Sequence[int]:
    first, last = SHARES[split]
    return range(round(first * len(words())), round(last * len(words())))


def _facts(index: int) -> Facts:
    word = word_of(index)
    return {"repeats": len(word) - len(set(word))}


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
    place=Place.INLINE,
    writing=Writing(signs="", lines=False),
    tools=TOOLS,
    dialect=Dialect(base="/wordle", index="seed", words="/filtered_vocab"),
    difficulty="repeats",
    collection="lmrlgym",
    renumbered="the original draws its word from another list",
)
