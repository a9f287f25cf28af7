"""What there is to know about an environment, and the registry of environments."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from envpool.errors import (
    EnvPoolError,
    MalformedAction,
    UnknownEnvironment,
    UnknownTask,
    did_you_mean,
    hint_of,
)
from envpool.types import Split, Step, Task

Facts = Mapping[str, int | str]
"""What is known of a task without playing it, as in ``{"depth": 2, "distractors": 3}``."""

Wanted = Mapping[str, Sequence[int | str]]
"""Allowed values per fact, as in ``{"depth": [1, 2]}``."""


class Environment(Protocol):
    """One live world in this process. Deterministic by task index: no clock, no global randomness."""

    def reset(self, index: int) -> str:
        """Starts the task `index` and returns the first observation. May be called again at any time."""

    def step(self, action: str) -> Step:
        """Takes one action. An action it does not understand is answered in words, never with an exception."""

    def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now, in a fixed order; enough for a random player."""

    def close(self) -> None:
        """Frees what the environment holds."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One kind of action, for the formats that call functions.

    Attributes:
        name: what the function is called, as in ``go_to``.
        template: how the action is written as text, parameters in braces, as in ``go to {object}``; `envpool.calls`
            tells what else may stand in braces.
        summary: one line on what it does.
    """

    name: str
    template: str
    summary: str = ""


ACT = Tool("act", "{action}", "takes one action, written as the instructions say")
"""The one tool of an environment that names none."""


class Alone(StrEnum):
    """Where an action is found that stands in an answer without a label ``Action:``."""

    LINE = "line"  # a line that holds nothing else
    FENCE = "fence"  # a block of code
    TAGS = "tags"  # anywhere, between the fixed texts that a tool's action begins and ends with


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What the text of an action may hold, by which `envpool.reading` tells it from what a model writes around it.

    Attributes:
        signs: what an action holds besides letters, digits and spaces, as in ``","``; any other character is
            decoration, and several spaces are one. None if an action may hold anything.
        lines: whether an action may have several lines. If not, line breaks in the argument of a tool are spaces.
        begins: regular expression of how every action begins, where the tools do not show it.
        alone: the official answer form of the environment, if it has no label: ``line``, ``fence`` or ``tags``; None if
            an action needs a label.

    Raises:
        EnvPoolError: there is no such answer form.
    """

    signs: str | None = None
    lines: bool = True
    begins: str | None = None
    alone: Alone | None = None

    def __post_init__(self) -> None:
        if self.alone is None:
            return
        if self.alone not in list(Alone):
            near = did_you_mean(str(self.alone), Alone)
            raise EnvPoolError(f"alone={self.alone!r} is not one of {', '.join(Alone)}{near}")
        object.__setattr__(self, "alone", Alone(self.alone))


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """An environment's card.

    Attributes:
        name: how it is called in recipes and item ids.
        version: changes whenever a task, a rule or what an observation says changes.
        summary: one line for tables.
        instructions: what a language model is told before the first observation, without the answer format.
        brief: the same in one line, for models trained from scratch, to which words mean nothing yet.
        make: builds an `Environment`; may raise `MissingExtra`.
        tasks: the task indices of a split, always in the same order.
        facts: what is known of a task without playing it.
        max_turns: the turn limit.
        success_above: an episode succeeded if its score is greater than this. The only success rule there is.
        score_range: the smallest and the largest score.
        initial_score: the score before the first action.
        metric: what a benchmark reports for this environment.
        task_type: the fact that sorts its tasks into types, which a benchmark reports one by one; None if all are of
            one type.
        expert: plays the environment it is given: yields (thought, action) and reads the environment's state
            in between. None if there is no expert.
        extra: the extra that installs what `make` needs; None if nothing is needed.
        inline: True if every call returns within milliseconds and cannot hang; such an environment is stepped
            in the pool's own thread. Others get a worker thread per call.
        tools: its kinds of action, for the formats that call functions.
        writing: what the text of an action may hold.
        deterministic: whether the same actions after the same reset are answered alike, every time. Only then may
            an episode that was cut off be played again from its start.
        longest_action: bytes of an action in UTF-8, at most; a longer one is answered with a correction, for no player
            writes one and every environment would have to read it.
        served: True if it lives behind a server only; `make` then raises an error that says so.
    """

    name: str
    version: str
    summary: str
    instructions: str
    brief: str
    make: Callable[[], Environment]
    tasks: Callable[[Split], Sequence[int]]
    facts: Callable[[int], Facts] = lambda index: {}
    max_turns: int
    success_above: float
    score_range: tuple[float, float] = (0.0, 1.0)
    initial_score: float = 0.0
    metric: Literal["success", "score"] = "success"
    task_type: str | None = None
    expert: Callable[[Any], Iterator[tuple[str, str]]] | None = None
    extra: str | None = None
    inline: bool = False
    tools: Sequence[Tool] = (ACT,)
    writing: Writing = Writing()
    deterministic: bool = True
    longest_action: int = 10_000
    served: bool = False

    def success(self, score: float) -> bool:
        """Applies the environment's success rule."""
        return score > self.success_above

    def check_length(self, action: str) -> None:
        """Looks whether an action is not too long.

        Raises:
            MalformedAction: it is.
        """
        size = len(action.encode("utf-8", "surrogatepass"))
        if size > self.longest_action:
            raise MalformedAction(
                f"The action is too long: it has {size:,} bytes, and {self.name} takes at most {self.longest_action:,}."
            )

    def select(
        self, split: Split | str, count: int | None = None, *, seed: int = 0, where: Wanted | None = None
    ) -> list[Task]:
        """Draws tasks of a split, the same on every machine.

        Args:
            split: ``train``, ``explore`` or ``eval``.
            count: how many; None for all.
            seed: another seed gives another draw.
            where: allowed values per fact; only tasks that match all of them are drawn.

        Returns:
            `count` different tasks in random order.

        Raises:
            UnknownTask: no such split, a fact that the environment does not have, or fewer than `count` matching tasks.
        """
        if split not in list(Split):
            known_splits = ", ".join(Split)
            raise UnknownTask(
                f"there is no split {split!r}{did_you_mean(str(split), map(str, Split))} (known: {known_splits})"
            )
        indices = self.tasks(Split(split))
        if where and indices:
            known = self.facts(indices[0])
            for fact in where:
                if fact not in known:
                    raise UnknownTask(
                        f"{self.name} tasks have no fact {fact!r}{did_you_mean(fact, known)} "
                        f"(they have: {', '.join(known) or 'none'})"
                    )
            indices = [i for i in indices if _matches(self.facts(i), where)]
        if count is not None and count > len(indices):
            raise UnknownTask(
                f"{self.name} has {len(indices)} matching tasks in split {str(split)!r}, fewer than {count}"
            )
        drawn = sorted(indices, key=lambda i: hashlib.sha256(f"{self.name} {seed} {i}".encode()).digest())
        return [Task(self.name, i) for i in drawn[:count]]


def _matches(facts: Facts, where: Wanted) -> bool:
    return all(facts[fact] in allowed for fact, allowed in where.items())


EMBEDDED = ("babyai", "maze", "textcraft", "wordle")
"""The environments that ship with envpool: `envpool.envs.<name>.SPEC`."""

SERVED = (
    *("academia", "alfworld", "movie", "sciworld", "searchqa", "sheet", "sqlgym", "todo", "weather", "webarena"),
    "webshop",
)
"""The environments that live behind a server only: `envpool.envs.served.SPECS`."""

_registered: dict[str, EnvSpec] = {}


def register(spec: EnvSpec) -> EnvSpec:
    """Makes an environment known under its name in this process, and returns its card.

    Raises:
        EnvPoolError: the name is taken by another environment.
    """
    if spec.name in (*EMBEDDED, *SERVED) or _registered.get(spec.name, spec) is not spec:
        raise EnvPoolError(f"the environment name {spec.name!r} is taken: give yours another name")
    _registered[spec.name] = spec
    return spec


def environments() -> list[str]:
    """The names of all known environments, sorted."""
    return sorted({*EMBEDDED, *SERVED, *_registered})


def get_spec(name: str) -> EnvSpec:
    """Finds an environment by its name.

    Raises:
        UnknownEnvironment: there is none.
    """
    if name in _registered:
        return _registered[name]
    if name in EMBEDDED or name in SERVED:
        module = importlib.import_module(f"envpool.envs.{'served' if name in SERVED else name}")
        found = module.SPECS[name] if name in SERVED else module.SPEC
        assert isinstance(found, EnvSpec)
        return found
    file = name if name.endswith(".py") else f"{name}.py"
    if Path(file).is_file():
        raise UnknownEnvironment(f"unknown environment {name!r}: import what registers it, {hint_of(name)}")
    raise UnknownEnvironment(
        f"unknown environment {name!r}{did_you_mean(name, environments())} (known: {', '.join(environments())})"
    )
