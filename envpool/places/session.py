"""A session on this machine, in any place and any event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    Every call raises `EnvironmentFailed` if the environment raised, hung or returned nonsense, and `SessionLost` if
    there is no environment any more.

    Args:
        instance: where it lives.
        loop: the event loop that it is used in.
        left: is called when it is closed.
    """

    def __init__(self, instance: Instance, loop: Loop, left: Callable[[], None]) -> None:
        self._instance = instance
        self._now = instance.now if isinstance(instance, Inline) else None
        self._step_now = instance.step_now if isinstance(instance, Inline) else None
        self._loop = loop
        self._left: Future[Any] | None = None  # a call that nobody waits for any more
        self._leave = left
        self._closed = False

    @property
    def environment(self) -> Environment | None:
        """The environment itself if it lives in this process."""
        return self._instance.environment

    @property
    def lost(self) -> bool:
        """Whether every further call is in vain: the environment is gone, or nobody waited for the end of a call."""
        return self._left is not None or self._instance.lost

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation. Raises `UnknownTask` if there is none."""
        observation: str = await self._call("reset", index)
        return observation

    async def step(self, action: Action) -> Step:
        """Takes one action."""
        if self._step_now is not None:  # as `_call` does, a coroutine less
            await self._loop.pause()
            return self._step_now(action)
        step: Step = await self._call("step", action)
        return step

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now."""
        actions: Sequence[str] = await self._call("available_actions")
        return actions

    async def aclose(self) -> None:
        """Frees the environment; the second call does nothing.

        After a call that was not waited for to its end, it waits a moment only. A call that hangs is left alone; the
        environment is closed when it comes back.

        Raises:
            EnvironmentFailed: it failed in closing; it is gone nevertheless.
        """
        if self._closed:
            return
        self._closed = True
        await self._loop.pause()
        if self._now is not None:
            try:
                self._now("close")
            finally:
                self._leave()
            return
        closing = self._instance.close()
        try:
            if self._left is None:
                await self._loop.wait(closing, queues=False)
            else:
                await self._loop.settle(closing, GRACE_SECONDS)
        finally:
            self._leave()
            if not closing.done():
                self._loop.abandoned()

    async def built(self) -> None:
        """Waits until there is an environment.

        Raises:
            EnvPoolError: there is none.
        """
        if self._now is None:
            await self._wait(self._instance.built)

    async def _call(self, name: str, *arguments: Any) -> Any:
        if self._now is not None:
            await self._loop.pause()
            return self._now(name, *arguments)
        if self._left is not None:
            raise SessionLost(name, "its last call did not end")
        return await self._wait(self._instance.call(name, *arguments, seconds=self._loop.seconds))

    async def _wait(self, future: Future[Any]) -> Any:
        try:
            return await self._loop.wait(future, queues=self._instance.queues)
        finally:
            if not future.done():
                self._left = future


async def open_session(host: Host, loop: Loop, left: Callable[[], None] = lambda: None) -> PlacedSession:
    """Builds an environment in a place; what nobody waits for any more is closed as soon as it is built.

    Args:
        host: the place.
        loop: the event loop that the session is used in.
        left: is called when the session is closed; not if it could not be opened.

    Raises:
        EnvPoolError: it could not be built.
    """
    await loop.pause()
    instance = host.open(loop)
    session = PlacedSession(instance, loop, left)
    try:
        await session.built()
    except BaseException:
        if not instance.built.done():
            loop.abandoned()
        instance.close()
        raise
    return session
