"""A session on this machine, in any place and any event loop."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from envpool.errors import SessionLost
from envpool.places.hosts import Host, Instance, Loop
from envpool.places.inline import Inline
from envpool.spec import Environment
from envpool.types import Action, Step

GRACE_SECONDS = 0.5
"""How long closing waits for a call that nobody waits for any more."""


class PlacedSession:
    """One live instance of an environment on this machine; `open_session` makes one.

    Args:
        instance: where it lives.
        loop: the event loop that it is used in.

    Attributes:
        abandoned: whether it was left alone in a call that did not end.
    """

    def __init__(self, instance: Instance | Inline, loop: Loop) -> None:
        self.abandoned = False
        self._instance = instance
        self._loop = loop
        self._asked: Future[Any] | None = None  # the latest call, where a call takes its time
        self._closed = False

    @property
    def environment(self) -> Environment | None:
        """The environment itself if it lives in this process."""
        return self._instance.environment

    @property
    def lost(self) -> bool:
        """Whether every further call is in vain: there is no environment any more, or it is still in an earlier one."""
        return self._instance.lost or (self._asked is not None and not self._asked.done() and not self._waited)

    _waited = False

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation."""
        observation: str = await self._call("reset", index)
        return observation

    async def step(self, action: Action) -> Step:
        """Takes one action."""
        step: Step = await self._call("step", action)
        return step

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now."""
        actions: Sequence[str] = await self._call("available_actions")
        return actions

    async def aclose(self) -> None:
        """Frees the environment; the second call does nothing.

        After a call that nobody waited for to its end, it waits for that a moment only: what hangs is closed when it
        comes back, and counts as abandoned.

        Raises:
            EnvironmentFailed: it failed in closing; it is gone nevertheless.
        """
        if self._closed:
            return
        self._closed = True
        await self._loop.pause()
        hung = self.lost
        closing = self._instance.close()
        if closing is None:
            return
        if hung:
            self.abandoned = not await self._loop.settle(closing, GRACE_SECONDS)
            return
        try:
            await self._loop.wait(closing, queues=False)
        finally:
            self.abandoned = not closing.done()

    async def _call(self, name: str, *arguments: Any) -> Any:
        instance = self._instance
        if isinstance(instance, Inline):
            await self._loop.pause()
            return instance.call(name, *arguments)
        if self.lost:
            raise SessionLost(name, "its last call did not end")
        self._asked = instance.call(name, *arguments, seconds=self._loop.seconds)
        return await self._outcome(self._asked, instance.queues)

    async def _outcome(self, asked: Future[Any], queues: bool) -> Any:
        self._asked, self._waited = asked, True
        try:
            return await self._loop.wait(asked, queues=queues)
        finally:
            self._waited = False


async def open_session(host: Host, loop: Loop) -> PlacedSession:
    """Builds an environment in a place.

    Raises:
        EnvPoolError: it could not be built.
    """
