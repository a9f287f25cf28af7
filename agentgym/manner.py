"""How a model was taught, kept beside its weights, so that it can be measured in the same manner.

A model that learned one-line prompts and short answers fails with any others, whatever it can do. So `learn` writes
`agentgym.json` into the folder of every model, and playing follows it unless the recipe says `eval.manner: recipe`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentgym.data.store import write_atomically
from agentgym.errors import ModelError
from agentgym.settings import FormatName, MannerFrom, Prompt, Recipe

FILE = "agentgym.json"
"""The file in a model's folder."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What a player is told, and how it answers.

    Attributes:
        prompt: what it is told before the first observation.
        format: how its answers are written.
        context: most tokens of an episode.
        max_tokens: most tokens of an answer.
    """

    prompt: Prompt
    format: FormatName
    context: int
    max_tokens: int

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {**asdict(self), "prompt": str(self.prompt), "format": str(self.format)}

    def __str__(self) -> str:
        tokens = f"context {self.context}, answers of up to {self.max_tokens} tokens"
        return f"prompt {self.prompt}, format {self.format}, {tokens}"


def manner_of(recipe: Recipe) -> Manner:
    """The manner that a recipe describes."""
    return Manner(recipe.prompt, recipe.format, recipe.model.context, recipe.generation.max_tokens)


def write_manner(recipe: Recipe, model: Path) -> None:
    """Writes down beside a model how it was taught.

    Raises:
        RunError: the file cannot be written.
    """
    write_atomically(model / FILE, (json.dumps(manner_of(recipe).to_json(), indent=2) + "\n").encode())


def read_manner(model: str) -> Manner | None:
    """How a model was taught; None if that is not known, as of a hub id.

    Raises:
        ModelError: the file is damaged.
    """
    path = Path(model).expanduser() / FILE
    try:
        found = json.loads(path.read_bytes())
        context, max_tokens = found["context"], found["max_tokens"]
        if not (type(context) is type(max_tokens) is int and 0 < max_tokens < context):
            raise ValueError(f"context {context!r}, max_tokens {max_tokens!r}")
        return Manner(Prompt(found["prompt"]), FormatName(found["format"]), context, max_tokens)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ModelError(
            f"{path} is damaged ({reason}): delete it, or set eval.manner=recipe to play in the recipe's manner"
        ) from error


def in_manner_of(recipe: Recipe, model: str) -> Recipe:
    """The recipe with the manner in which a model was taught, where it is known and the recipe does not insist.

    Raises:
        ModelError: the file that tells is damaged, or it was taught with prompts that the recipe does not have.
    """
    manner = read_manner(model) if recipe.eval.manner == MannerFrom.model else None
    if manner is None:
        return recipe
    if manner.prompt == Prompt.from_data and recipe.prompt != Prompt.from_data:
        raise ModelError(
            f"{model} was taught with the prompts of its data: set prompt=from_data and name that `data`, or insist on "
            "the recipe's own prompts with eval.manner=recipe"
        )
    return replace(
        recipe,
        prompt=manner.prompt,
        format=manner.format,
        model=replace(recipe.model, context=manner.context),
        generation=replace(recipe.generation, max_tokens=manner.max_tokens),
    )
