"""Everything envpool raises on purpose.

EnvPoolError
├── UnknownEnvironment    no environment of that name (the message offers the nearest)
├── UnknownTask           an environment has no such task or split
├── MissingExtra          an optional dependency is not installed (the message names the extra)
├── MalformedAction       a policy's text holds no readable action (carries the correction to answer with)
├── ContextFull           a policy cannot take another turn: its context is used up
└── EpisodeFailed         one episode could not go on; becomes data in `run_episode`
    ├── EnvironmentFailed     the environment raised, hung or returned nonsense
    │   ├── ServerUnreachable     its server gave no readable answer
    │   ├── ServerRefused         its server answered with an error
    │   ├── SessionLost           its server or worker process no longer knows the session
    │   └── ReplayMismatch        played again, it answered something else
    └── PolicyFailed          the policy raised, hung or returned nonsense
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from envpool.call import Call


class EnvPoolError(Exception):
    """Base class of the errors that envpool raises on purpose; its text is one line with a cure."""


class UnknownEnvironment(EnvPoolError):
    """No environment has that name."""


class UnknownTask(EnvPoolError):
    """The environment has no such task, split or task fact."""


class MissingExtra(EnvPoolError):
    """An optional dependency is missing."""

    def __init__(self, environment: str, package: str, extra: str) -> None:
        super().__init__(
            f"{environment} needs the package {package!r}, which is not installed: "
            f"pip install 'agentgym-lightning[{extra}]'"
        )


class MalformedAction(EnvPoolError):
    """A policy's text holds no readable action; `str(error)` is the correction it is answered with.

    Args:
        correction: the text.
        calls: the calls that can be read in it and are not carried out.
    """

    def __init__(self, correction: str, calls: Sequence[Call] = ()) -> None:
        super().__init__(correction)
        self.calls = tuple(calls)


class ContextFull(EnvPoolError):
    """The policy has no room left for another turn."""


class EpisodeFailed(EnvPoolError):
    """One episode could not go on.

    Args:
        place: where it happened, as in ``"reset"`` or ``"step 3"``.
        cause: what happened, in one line.
    """

    def __init__(self, place: str, cause: str) -> None:
        super().__init__(place, cause)
        self.place = place
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.place}: {self.cause}"


class EnvironmentFailed(EpisodeFailed):
    """The environment raised, hung or returned nonsense.

    Attributes:
        final: whether another session would certainly be answered alike.
    """

    final = True


class ServerUnreachable(EnvironmentFailed):
    """The server gave no readable answer: refused, cut off, too late, or garbage.

    Args:
        place: where it happened.
        cause: what happened, in one line.
        acted: whether the server may have carried out the request.
        heard: whether it answered, only not so that it could be believed.
    """

    final = False

    def __init__(self, place: str, cause: str, *, acted: bool = True, heard: bool = False) -> None:
        super().__init__(place, cause)
        self.acted = acted
        self.heard = heard


class ServerRefused(EnvironmentFailed):
    """The server answered with an error of its own.

    Args:
        place: where it happened.
        cause: what happened, in one line.
        final: whether another session would certainly be answered alike.
    """

    def __init__(self, place: str, cause: str, *, final: bool = False) -> None:
        super().__init__(place, cause)
        self.final = final


class SessionLost(EnvironmentFailed):
    """The session is gone: its server was started anew or gave it away, or its worker process ended."""

    final = False


class ReplayMismatch(EnvironmentFailed):
    """Played again from reset with the same actions, the environment answered something else."""


class PolicyFailed(EpisodeFailed):
    """The policy raised, hung or returned nonsense."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest choice, or an empty string."""
    near = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def hint_of(name: str) -> str:
    """Says how an environment is made known of whose file or folder this is the name; empty if it is not."""
    file = name if name.endswith(".py") else f"{name}.py"
    if not name.endswith(".py") and (Path(name) / "spec.py").is_file():
        file = f"{name.rstrip('/')}/"
    elif name != file and not Path(file).is_file():
        return ""
    return f"as in --import {file}, or `imports: [{file}]` in a recipe"


def the_one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Returns the one error that trio wrapped in groups; the group itself if there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return group if isinstance(error, BaseExceptionGroup) else error
