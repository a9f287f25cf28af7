"""The event loop of asyncio, as the places need it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from envpool.errors import EnvironmentFailed
from envpool.guard import in_one_line

T = TypeVar("T")

STEP_SECONDS = 60.0
"""How long one call to an environment may take that can hang."""


class AsyncioLoop:
    """Waits for the futures of places in the running loop of asyncio.

    Args:
        seconds: how long one call may take.

    Attributes:
        seconds: how long one call may take.
        hung: how many sessions were left alone in a call that had not ended.
    """

    def __init__(self, seconds: float = STEP_SECONDS) -> None:
        self.seconds = seconds
        self.hung = 0

    async def pause(self) -> None:
        """Lets nobody run: a server takes up another request when it has answered this one."""

    async def wait(self, future: Future[T], *, queues: bool) -> T:
        """Waits for a future and returns what it holds.

        Raises:
            EnvironmentFailed: it took too long.
        """
        if queues:
            await _held(future)
        elif not await self.settle(future, self.seconds):
            raise EnvironmentFailed("call", f"the environment took more than {self.seconds:g} s")
        try:
            return future.result()
        except KeyboardInterrupt as error:  # the environment's own: uvicorn takes care of Ctrl-C
            raise EnvironmentFailed("call", in_one_line(error)) from error

    async def settle(self, future: Future[Any], seconds: float) -> bool:
        """Waits `seconds` at most; returns whether the future holds anything then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _held(future)
        return future.done()

    def abandoned(self) -> None:
        """Counts a session that is left alone in a call that has not ended."""
        self.hung += 1


async def _held(future: Future[Any]) -> None:
    """Returns when a future holds something, which it may be given in any thread."""
    if future.done():
        return
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def notice(future: Future[Any]) -> None:
        if threading.get_ident() == here:
            wake()
        else:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(wake)

    future.add_done_callback(notice)
    await waiting
