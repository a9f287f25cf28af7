"""What there is to know about an environment."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

from envpool.datafiles import DataFile
from envpool.dialects import PLAIN, Dialect
from envpool.errors import EnvPoolError, MalformedAction, UnknownTask, did_you_mean
from envpool.options import MARK, Option, OptionError, declared, fingerprint, options_json, read_options
from envpool.tools import ACT, Tool
from envpool.types import Action, Split, Step, Task

Facts = Mapping[str, int | str]
"""What is known of a task without playing it, as in ``{"depth": 2, "distractors": 3}``."""

Wanted = Mapping[str, Sequence[int | str]]
"""Allowed values per fact, as in ``{"depth": [1, 2]}``."""


class Environment(Protocol):
    """One live world in this process. Deterministic by task index: no clock, no global randomness."""

    def reset(self, index: int) -> str:
        """Starts the task `index` and returns the first observation. May be called again at any time."""

    def step(self, action: Any) -> Step:
        """Takes one action: its text, or a `Call` where the environment takes calls.

        An action it does not understand is answered in words, never with an exception.
        """

    def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now, in a fixed order; enough for a random player."""

    def close(self) -> None:
        """Frees what the environment holds."""


class Place(StrEnum):
    """Where the sessions of an environment live."""

    INLINE = "inline"  # in the pool's own thread: every call returns within milliseconds and cannot hang
    THREAD = "thread"  # each in a thread of its own, the same for all of its calls
    PROCESS = "process"  # in worker processes of this machine


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
        lines: whether an action may have several lines. If not, a line break in the argument of a tool is a mistake.
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


def whole(observation: str) -> str:
    """All of an observation on one line, without a full stop."""
    return " ".join(observation.split()).removesuffix(".")


def goal_after(pattern: str, *, first: bool = False) -> Callable[[str], str]:
    """Makes an `EnvSpec.goal` that finds the one group of a pattern; all of the observation where it is not there.

    Args:
        pattern: regular expression; a dot is any character but a line break.
        first: whether the first match counts; otherwise the last does, for the first may be an example.
    """
    compiled = re.compile(pattern)

    def goal(observation: str) -> str:
        found = compiled.findall(observation)
        return whole(found[0 if first else -1] if found else observation)

    return goal


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvSpec:
    """An environment's card. Two cards are the same if they are one object.

    Attributes:
        name: how it is called in recipes and item ids.
        version: changes whenever a task, a rule or what an observation says changes.
        summary: one line for tables.
        instructions: what a language model is told before the first observation, without the answer format.
        brief: the same in one line, for models trained from scratch, to which words mean nothing yet.
        make: builds an `Environment`, from what `shared` opened if there is that; may raise `MissingExtra`. None if the
            environment lives behind a server only.
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
        shared: opens what all sessions of a process share, as a large file; called once a process.
        place: where its sessions live, if nothing else is asked for.
        most_building: sessions that are built at once, at most; None for any number.
        most_sessions: sessions at once, at most; None for any number.
        most_memory: megabytes that one session may take; None for any amount.
        tools: its kinds of action, for the formats that call functions.
        takes_calls: whether `step` is given a `Call` rather than the text of an action.
        writing: what the text of an action may hold.
        dialect: how its servers speak.
        deterministic: whether the same actions after the same reset are answered alike, every time. Only then may
            an episode that was cut off be played again from its start.
        longest_action: bytes of an action in UTF-8, at most; a longer one is answered with a correction, for no player
            writes one and every environment would have to read it.
        goal: finds what is asked for in a first observation, of ours or of an original server.
        difficulty: the fact that says how hard a task is; None if none does.
        packages: the packages whose versions decide what its tasks are.
        collection: what AgentGym's files may put in front of its name.
        item_ids: regular expression of the item ids of its tasks that hold no number; a group ``type`` is the type of
            the task. None if all do.
        renumbered: why AgentGym's numbers mean other tasks here; None if they mean the same.
        options: what it is configured with, an object of its frozen dataclass of `envpool.options.option`s; None if it
            has none. The card that is found by its name has the defaults.
        configure: makes the card for other options; `with_options` calls it.
        base: the card with the default options that this one was made from; None if it is that itself.
    """

    name: str
    version: str
    summary: str
    instructions: str
    brief: str
    make: Callable[..., Environment] | None
    tasks: Callable[[Split], Sequence[int]]
    facts: Callable[[int], Facts] = lambda index: {}
    max_turns: int
    success_above: float
    score_range: tuple[float, float] = (0.0, 1.0)
    initial_score: float = 0.0
    metric: Literal["success", "score"] = "success"
    task_type: str | None = None
    expert: Callable[[Any], Iterator[tuple[str, Action]]] | None = None
    extra: str | None = None
    shared: Callable[[], Any] | None = None
    place: Place = Place.THREAD
    most_building: int | None = None
    most_sessions: int | None = None
    most_memory: int | None = None
    tools: Sequence[Tool] = (ACT,)
    takes_calls: bool = False
    writing: Writing = Writing()
    dialect: Dialect = PLAIN
    deterministic: bool = True
    longest_action: int = 10_000
    goal: Callable[[str], str] = whole
    difficulty: str | None = None
    packages: Sequence[str] = ()
    collection: str | None = None
    item_ids: str | None = None
    renumbered: str | None = None
    options: Any = None
    configure: Callable[[Any], EnvSpec] | None = field(default=None, repr=False)
    base: EnvSpec | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.options is None) != (self.configure is None):
            raise EnvPoolError(f"{self.name}: options and configure go together: give both, or neither")
        if self.options is not None:
            declared(type(self.options))
        if self.place not in list(Place):
            near = did_you_mean(str(self.place), Place)
            raise EnvPoolError(f"{self.name}: place={str(self.place)!r} is not one of {', '.join(Place)}{near}")
        object.__setattr__(self, "place", Place(self.place))

    @property
    def served(self) -> bool:
        """Whether it lives behind a server only."""
        return self.make is None

    @property
    def declared(self) -> Mapping[str, Option]:
        """Its options, by name."""
        return {} if self.options is None else declared(type(self.options))

    @property
    def data(self) -> Mapping[str, Sequence[DataFile]]:
        """The files that it can use, by the option that names the folder which holds them."""
        return {name: option.files for name, option in self.declared.items() if option.files}

    def build(self) -> Environment:
        """Builds an environment; what its sessions share is opened first, once a process.

        Raises:
            EnvPoolError: it lives behind a server only.
            MissingExtra: a package is not installed.
        """
        if self.make is None:
            raise EnvPoolError(
                f"{self.name} runs behind a server only: give its address, as in "
                f"environments.{self.name}.endpoints=[http://127.0.0.1:36001]"
            )
        return self.make() if self.shared is None else self.make(_opened(self.shared))

    def prepare(self) -> None:
        """Opens what its sessions share, if that was not done yet in this process."""
        if self.shared is not None:
            _opened(self.shared)

    def with_options(self, options: Any) -> EnvSpec:
        """The card for other options; the same object for the same options and the same content of their files.

        What changes tasks changes the version: it gets ``+`` and the fingerprint of the options behind it.

        Args:
            options: values by name, as in a recipe, or an object of the class of `options`. What is not named has its
                default.

        Raises:
            OptionError: the environment has no such option, or it cannot be that, with all complaints.
            EnvPoolError: the environment cannot be made of them.
        """
        base = self.base or self
        read = read_options(base.name, None if base.options is None else type(base.options), options)
        if read == base.options:
            return base
        mark = fingerprint(base.name, read)
        key = (base, json.dumps(options_json(read), sort_keys=True), mark)
        with _configuring:
            if key not in _configured:
                made = _made(base, read)
                if made.name != base.name or made.options != read:
                    raise EnvPoolError(f"{base.name}: configure made the card of something else: mend it")
                version = f"{made.version}{MARK}{mark}" if mark else made.version
                _configured[key] = replace(made, version=version, base=base)
            return _configured[key]

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


def _made(base: EnvSpec, options: Any) -> EnvSpec:
    assert base.configure is not None
    try:
        return base.configure(options)
    except EnvPoolError:
        raise
    except Exception as error:  # it reads files of the user's, and may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise OptionError(base.name, ("", f"it cannot be made with these options ({why}): change them")) from error


_configured: dict[tuple[EnvSpec, str, str], EnvSpec] = {}
_configuring = threading.RLock()

_shared: dict[Callable[[], Any], Any] = {}
_opening = threading.Lock()


def _opened(shared: Callable[[], Any]) -> Any:
    with _opening:
        if shared not in _shared:
            _shared[shared] = shared()
        return _shared[shared]


def _matches(facts: Facts, where: Wanted) -> bool:
    return all(facts[fact] in allowed for fact, allowed in where.items())
