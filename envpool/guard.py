"""Code that is not envpool's: whatever an environment raises or returns becomes one error or a value that is sound.

A score is any real number of Python's (``int``, ``float``, ``Fraction``, numpy's), which is made a ``float`` here; a
``bool``, a ``Decimal``, what is not finite and what no ``float`` can hold is an error. Texts are made plain ``str``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TypeVar

from envpool.errors import EnvironmentFailed, EpisodeFailed
from envpool.types import Step

T = TypeVar("T")

LONGEST_CAUSE = 1000
"""Characters of an error's text that are kept."""

LARGEST_WHOLE = 2**63
"""Whole numbers from here on are stored as floating ones."""

LONGEST_VALUE = 80
"""Characters of a value in an error."""


def call_here(function: Callable[..., T], *args: object) -> T:
    """Calls into an environment: a process that it forks ends when the call does, and never goes on as this one."""
    process = os.getpid()
    try:
        return function(*args)
    finally:
        if os.getpid() != process:
            os._exit(1)


def in_one_line(error: BaseException) -> str:
    """Names an error and its text, as in ``KeyError: 'x'``; a group by its first member. Never fails."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    name, text = type(error).__name__, _attempt(str, error)
    if text is None:
        return f"{name}, whose text cannot be read"
    line = " ".join(text[:LONGEST_CAUSE].split())
    if isinstance(error, EpisodeFailed):
        return line
    return f"{name}: {line}" if line else name


def read_text(returned: object, place: str) -> str:
    """Reads an observation or an action that an environment returned.

    Raises:
        EnvironmentFailed: it is not a text.
    """
    if type(returned) is str:
        return returned
    if not isinstance(returned, str):
        raise EnvironmentFailed(place, f"the environment returned {_kind(returned)}, not a text")
    return str.__str__(returned)


def read_step(returned: object, place: str) -> Step:
    """Reads what an environment returned for an action.

    Raises:
        EnvironmentFailed: it is not a `Step`, or something in it is not as it should be.
    """
    if not isinstance(returned, Step):
        raise EnvironmentFailed(place, f"the environment returned {_kind(returned)}, not a Step")
    if type(returned) is Step and not returned.info and _is_plain(returned):
        return returned
    info = _info(returned.info, place) if returned.info else {}
    observation, score, done = read_text(returned.observation, place), returned.score, returned.done
    number = _number(score)
    if number is None:
        raise EnvironmentFailed(place, f"the environment returned the score {brief(score)}, not a finite number")
    if not isinstance(done, bool):
        raise EnvironmentFailed(place, f"the environment returned done={brief(done)}, neither True nor False")
    return Step(observation, number, done, info)


def _is_plain(step: Step) -> bool:
    """Whether a step without info holds what it should already, as almost all do."""
    sound = type(step.observation) is str and type(step.score) is float and type(step.done) is bool
    return sound and math.isfinite(step.score)


def _info(info: object, place: str) -> dict[str, int | float | str]:
    """Reads what an environment says besides; yes and no become 1 and 0."""
    if not isinstance(info, Mapping):
        raise EnvironmentFailed(place, f"the environment returned {_kind(info)} as info, not a mapping")
    found: dict[str, int | float | str] = {}
    for name, value in info.items():
        if isinstance(value, str):
            found[read_text(name, place)] = read_text(value, place)
            continue
        number = int(value) if isinstance(value, int) and abs(value) < LARGEST_WHOLE else _number(value)
        if number is None:
            said = f"the environment returned info {brief(name)}={brief(value)}"
            raise EnvironmentFailed(place, f"{said}, neither a number nor a text")
        found[read_text(name, place)] = number
    return found


def read_actions(returned: object, place: str) -> list[str]:
    """Reads the possible actions that an environment returned.

    Raises:
        EnvironmentFailed: they are not a list of texts.
    """
    if not isinstance(returned, Sequence) or isinstance(returned, str):
        raise EnvironmentFailed(place, f"the environment returned {_kind(returned)}, not a list of actions")
    return [read_text(action, place) for action in returned]


def brief(value: object) -> str:
    """Writes a value for an error, cut if it is long. Never fails."""
    text = _attempt(repr, value)
    if text is None:  # such as an integer of more digits than Python writes
        return f"of type {_kind(value)} that cannot be written"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _number(score: object) -> float | None:
    if type(score) is not float:
        if isinstance(score, bool) or not isinstance(score, Real):
            return None
        try:
            score = float(score)
        except OverflowError:
            return None
    return score if math.isfinite(score) else None


def _kind(value: object) -> str:
    return type(value).__name__


def _attempt(write: Callable[[object], str], value: object) -> str | None:
    """The text of a value that may not be able to write itself; what no file can hold is escaped."""
    try:
        return str.__str__(write(value)).encode("utf-8", "backslashreplace").decode()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
