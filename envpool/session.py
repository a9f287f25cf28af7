"""A session: one live instance of an environment, wherever it lives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import trio

from envpool.errors import EnvironmentFailed
from envpool.spec import Environment, EnvSpec
from envpool.statistics import Recorder
from envpool.types import Action, Step


class Session(Protocol):
    """One live instance of an environment, in this process or elsewhere."""

    @property
    def environment(self) -> Environment | None:
        """The environment itself if it lives in this process; experts look at it."""

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation."""

    async def step(self, action: Action) -> Step:
        """Takes one action."""

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now."""

    async def aclose(self) -> None:
        """Frees the instance; may be called more than once."""


class Transport(Protocol):
    """Opens sessions."""

    def running(self, recorder: Recorder | None = None) -> AbstractAsyncContextManager[None]:
        """Entered around all sessions of a run; what serves them all (connections, processes) lives here.

        Args:
            recorder: where retries and failures are counted.
        """

    async def open(self, spec: EnvSpec) -> Session:
        """Opens one session of the environment."""


@dataclass(slots=True)
class Call:
    """A call to a session or transport that is being made.

    Attributes:
        limit: its time limit.
        failure: what went wrong in it last and is being repeated; what to tell if the time runs out.
    """

    limit: trio.CancelScope
    failure: EnvironmentFailed | None = None


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that this task is in, or was in last; also known to the tasks that it starts."""


def note_failure(failure: EnvironmentFailed | None) -> None:
    """Remembers what went wrong in this call, in case that it heals too late; None once it has healed."""
    call = current_call.get()
    if call is not None:
        call.failure = failure


@contextmanager
def queueing() -> Iterator[None]:
    """Around waiting in a queue of envpool's own, for room or a turn: it does not count as the call's time."""
    call = current_call.get()
    if call is None:
        yield
        return
    left = call.limit.deadline - trio.current_time()
    call.limit.deadline = math.inf
    try:
        yield
    finally:
        call.limit.deadline = trio.current_time() + left
