"""What every place gives: instances of one environment, whose calls are futures, and what an event loop has to do."""

from __future__ import annotations

from collections.abc import Callable
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
        """Lets others run before a call that is made in the loop's own thread, where that is the custom."""

    async def wait(self, future: Future[T], *, queues: bool) -> T:
        """Waits for a future of any thread and returns what it holds, or raises it.

        Args:
            future: what is waited for.
            queues: whether there is a queue whose time does not count, and the place itself sets the time limit.
        """

    async def settle(self, future: Future[Any], seconds: float) -> bool:
        """Waits so long at most; returns whether the future holds anything now. Never raises what it holds."""

    def reading(self, file: int, callback: Callable[[], None]) -> None:
        """Calls back whenever a file can be read, until `forget`."""

    def writing(self, file: int, callback: Callable[[], None]) -> None:
        """Calls back whenever a file can be written to, until `forget`."""

    def forget(self, file: int) -> None:
        """Calls back for this file no more; must come before it is closed."""

    def ticking(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back again and again, until the function that is returned is called."""


class Instance(Protocol):
    """One live environment in a place. Its calls are made one after the other.

    Attributes:
        environment: the environment itself if it is in this process and built.
        built: holds None once it can be called, or why it cannot.
        queues: whether calls wait for each other where it lives; then `seconds` is kept there, and else by the caller.
    """

    queues: bool
    built: Future[None]

    @property
    def environment(self) -> Environment | None: ...

    @property
    def lost(self) -> bool:
        """Whether there is no environment any more, so that every further call is in vain."""

    def call(self, name: str, *arguments: Any, seconds: float) -> Future[Any]:
        """Makes one call; see `live.Live.call` for what it may raise, and `SessionLost` if there is none any more."""

    def close(self) -> Future[None]:
        """Frees the environment after its last call, also one that is not built yet; nothing may be called after."""


class Host(Protocol):
    """A place where instances of one environment live.

    Attributes:
        workers: how many processes it has.
    """

    workers: int

    def open(self, loop: Loop) -> Instance:
        """Begins to build an instance; `Instance.close` must follow, whatever becomes of it."""

    async def aclose(self, loop: Loop) -> None:
        """Frees what the place holds; may be called more than once."""
