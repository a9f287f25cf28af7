"""What every place gives, and what it needs of an event loop."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from envpool.spec import Environment

T = TypeVar("T")


class Loop(Protocol):
    """An event loop, of trio or of asyncio, as the places see it."""

    @property
    def seconds(self) -> float:
        """How long the call that is being made may still take."""

    async def pause(self) -> None:
        """Comes before a call that is made in the loop's own thread, and lets others run where that is the custom."""

    async def wait(self, future: Future[T], *, queues: bool) -> T:
        """Waits for a future of any thread and returns what it holds, or raises it.

        Args:
            future: what is waited for.
            queues: whether its place has a queue and keeps the time limit itself, so that waiting there does not count.
        """

    async def settle(self, future: Future[Any], seconds: float) -> bool:
        """Waits `seconds` at most; returns whether the future holds anything then. Never raises what it holds."""

    def abandoned(self) -> None:
        """Counts a session that is left alone in a call that has not ended."""


class Instance(Protocol):
    """One live environment in a place. Its calls are made one after the other, in the order in which they come.

    Attributes:
        queues: whether the instances of its place wait for each other; then the place keeps the time of each call, from
            its turn on, and else the caller does.
        built: holds None once there is an environment, or why there is none.
    """

    queues: bool
    built: Future[None]

    @property
    def environment(self) -> Environment | None:
        """The environment itself if it is in this process and built."""

    @property
    def lost(self) -> bool:
        """Whether there is no environment any more, so that every further call is in vain."""

    def call(self, name: str, *arguments: Any, seconds: float) -> Future[Any]:
        """Makes one call, which may take `seconds`; it gives what `live.Live.call` does, or `SessionLost`."""

    def close(self) -> Future[None]:
        """Frees the environment after its last call, also one that is not built yet; no call may follow."""


class Host(Protocol):
    """A place where instances of one environment live.

    Attributes:
        workers: how many processes it has; 1 for this one.
    """

    workers: int

    def open(self, loop: Loop) -> Instance:
        """Begins to build an instance; `Instance.close` must follow, whatever becomes of it."""

    async def aclose(self, loop: Loop) -> None:
        """Frees what the place holds; may be called more than once."""


def done(value: T) -> Future[T]:
    """A future that holds a value."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def failed(error: BaseException) -> Future[Any]:
    """A future that holds an error."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
