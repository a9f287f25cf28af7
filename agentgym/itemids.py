"""Item ids: how AgentGym's files name tasks, and whether a number means the same task here.

``NAME_31`` is task 31 of an environment; some carry the name of a collection before that of the environment. Others
name a file or the data set that a question is from, but no number (`EnvSpec.item_ids`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from envpool import EnvSpec, environments, get_spec
from envpool.options import mark_of

_NUMBERED = re.compile(r"([a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*)_(0|[1-9][0-9]{0,17})")

ORIGINAL = ("agenttraj", "agenteval")
"""Versions of tasks whose numbers are those of AgentGym's environments."""


def why_renumbered(environment: str) -> str | None:
    """Why the numbers of AgentGym mean other tasks of an environment here; None if they mean the same."""
    return get_spec(environment).renumbered if environment in environments() else None


def other_options(environment: str, version: str) -> bool:
    """Whether a version is one of other options than those that the environment has here, or of other data."""
    return version not in ORIGINAL and renumbered(environment, version)


def renumbered(environment: str, version: str) -> bool:
    """Whether a number means another task here than where it is from."""
    return environment in environments() and other_task(get_spec(environment), version)


def other_task(spec: EnvSpec, version: str) -> bool:
    """Whether a number means another task in a version of an environment than by this card of it."""
    if version in ORIGINAL:
        return spec.renumbered is not None
    return mark_of(version) != mark_of(spec.version)


def numbering(environment: str, version: str) -> str:
    """What two versions of an environment have in common if a number means the same task in both."""
    if version not in ORIGINAL:
        return mark_of(version)
    if why_renumbered(environment) is not None:
        return "original"
    return mark_of(get_spec(environment).version) if environment in environments() else ""


def all_renumbered() -> list[str]:
    """The environments whose tasks have other numbers here than in AgentGym."""
    return [name for name in environments() if why_renumbered(name) is not None]


@dataclass(frozen=True, slots=True)
class ItemId:
    """A task as an item id names it.

    Attributes:
        text: the id as it was written.
        environment: whose task it is.
        index: its number; None where the id has none.
        task_type: what kind of task it is, where the id says so.
    """

    text: str
    environment: str
    index: int | None
    task_type: str | None = None

    @property
    def key(self) -> str:
        """The same for every way to write this id: ``NAME_19`` for ``COLLECTION_NAME_19``."""
        return self.text if self.index is None else f"{self.environment}_{self.index}"


def read_item_id(text: str) -> ItemId:
    """Reads an item id.

    Raises:
        ValueError: it names no task.
    """
    for name, pattern in _unnumbered(tuple(environments())):
        if match := pattern.fullmatch(text):
            return ItemId(text, name, None, match.groupdict().get("type"))
    if match := _NUMBERED.fullmatch(text):
        name, index = without_collection(match[1]), int(match[2])
        return ItemId(text, name, index)
    raise ValueError(f"item_id {text[:60]!r} is not <environment>_<index>")


def without_collection(name: str) -> str:
    """Takes off what AgentGym's files put in front of the name of an environment."""
    for collection in _collections(tuple(environments())):
        name = name.removeprefix(f"{collection}_")
    return name


@cache
def _collections(names: tuple[str, ...]) -> Sequence[str]:
    return sorted({spec.collection for spec in map(get_spec, names) if spec.collection is not None})


@cache
def _unnumbered(names: tuple[str, ...]) -> Sequence[tuple[str, re.Pattern[str]]]:
    specs = map(get_spec, names)
    return [(spec.name, re.compile(spec.item_ids)) for spec in specs if spec.item_ids is not None]
