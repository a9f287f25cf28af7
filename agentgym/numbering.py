"""Whose numbers tasks have where they are played: ours, or those of AgentGym's own servers (`EnvSpec.renumbered`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from agentgym.errors import DataError
from agentgym.itemids import ORIGINAL
from agentgym.panel import load_panel
from agentgym.settings import Recipe
from envpool import EnvSpec, Split, get_spec, using
from envpool.splits import by_fives

VERSION = ORIGINAL[-1]
"""The version of tasks that were played by the numbers of AgentGym's own servers."""


def plays_original(recipe: Recipe, name: str) -> bool:
    """Whether an environment of a recipe is played by numbers that mean other tasks here."""
    settings = recipe.environments[name]
    if spec_of(recipe, name).renumbered is None or not settings.endpoints:
        return False
    if settings.original or recipe.panel is None:
        return settings.original
    try:
        part = load_panel(recipe.panel).environments.get(name)
    except DataError:  # which the checks of a recipe report
        return False
    return part is not None and part.version is None


def card_of(recipe: Recipe, name: str) -> EnvSpec:
    """The card of an environment as a recipe plays it: facts, goals and splits are those of the tasks played.

    Raises:
        UnknownEnvironment: there is none.
        OptionError: it cannot have the options of the recipe.
    """
    spec = spec_of(recipe, name)
    return _original(spec) if plays_original(recipe, name) else spec


def spec_of(recipe: Recipe, name: str) -> EnvSpec:
    """The card of an environment with the options of a recipe.

    Raises:
        UnknownEnvironment: there is none.
        OptionError: it cannot have these options.
    """
    settings = recipe.environments.get(name)
    return get_spec(name) if settings is None else get_spec(name, settings.options)


@contextmanager
def configured(recipe: Recipe) -> Iterator[None]:
    """Within the block, or the function it decorates, names of environments mean them with the recipe's options.

    Raises:
        UnknownEnvironment, OptionError: as `spec_of`.
    """
    with using([spec_of(recipe, name) for name in recipe.environments]):
        yield


def versions_of(recipe: Recipe) -> dict[str, str]:
    """The version of each environment as a recipe plays it."""
    return {name: card_of(recipe, name).version for name in recipe.environments}


@cache
def _original(spec: EnvSpec) -> EnvSpec:
    """The card of an original server, of whose tasks nothing is known; where it takes any number, it gets ours."""
    tasks = spec.dialect.tasks or sorted(index for split in Split for index in spec.tasks(split))
    return replace(spec, version=VERSION, tasks=by_fives(tasks), facts=lambda index: {}, task_type=None, expert=None)
