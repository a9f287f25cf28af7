"""`prompt: from_data`: models are told what the recipe's trajectory files tell.

So a published checkpoint is played with the words that it was taught with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from agentgym.data.imports import import_files
from agentgym.data.sources import find
from agentgym.errors import RecipeError
from agentgym.settings import Prompt, Recipe


@dataclass(frozen=True, slots=True)
class DataPrompts:
    """What trajectory files tell before the first observation.

    Attributes:
        texts: the prompt by environment: the most frequent one, the earliest of several such.
        notes: one line about each environment to which several are told.
    """

    texts: dict[str, str]
    notes: tuple[str, ...]


def data_prompts(recipe: Recipe) -> DataPrompts:
    """Finds the prompts for a recipe's environments; none unless it says `prompt: from_data`.

    Raises:
        RecipeError: no file has one for an environment of the recipe.
        DataError: a file cannot be read.
    """
    if recipe.prompt != Prompt.from_data:
        return DataPrompts({}, ())
    paths = [path for source in recipe.data for path in find(source)]
    counts = _counts(tuple((path, path.stat().st_mtime_ns) for path in paths))
    missing = [name for name in recipe.environments if name not in counts]
    if missing:
        raise RecipeError(
            [
                f"prompt: no file of `data` tells how to play {name} (a message with instructions before the first "
                "observation): add one that does, or set prompt=full"
                for name in missing
            ]
        )
    texts, notes = {}, []
    for name in recipe.environments:
        (texts[name], often), *others = counts[name].most_common()
        if others:
            total = often + sum(count for _, count in others)
            notes.append(
                f"`data` has {len(others) + 1} prompts for {name}: the one of {often} of {total} records is used"
            )
    return DataPrompts(texts, tuple(notes))


@lru_cache(maxsize=4)
def _counts(files: Sequence[tuple[Path, int]]) -> dict[str, Counter[str]]:
    """How often each environment is told what. Every job of a run asks; the files are read once."""
    counts: dict[str, Counter[str]] = {}
    for trajectory in import_files(path for path, _ in files).trajectories:
        if trajectory.prompt:
            counts.setdefault(trajectory.task.environment, Counter())[trajectory.prompt] += 1
    return counts
