"""A session: one live instance of an environment, wherever it lives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import trio

from envpool.spec import Environment, EnvSpec
from envpool.statistics import Recorder
from envpool.types import Step


class Session(Protocol):
    """One live instance of an environment, in this process or elsewhere."""

    @property
    def environment(self) -> Environment | None:
        """The environment itself if it lives in this process; experts look at it."""

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation."""

    async def step(self, action: str) -> Step:
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


call_limit: ContextVar[trio.CancelScope | None] = ContextVar("call_limit", default=None)
"""The time limit of the call to a session or transport that this task is in, or was in last; also known to the tasks
that it starts."""


@contextmanager
def queueing() -> Iterator[None]:
    """Around waiting in a queue of envpool's own, for room or a turn: it does not count as the call's time."""
    limit = call_limit.get()
    if limit is None:
        yield
        return
    left = limit.deadline - trio.current_time()
    limit.deadline = math.inf
    try:
        yield
    finally:
        limit.deadline = trio.current_time() + left
