"""Sessions in this process."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Protocol, TypeVar

import trio

from envpool.guard import call_here
from envpool.spec import Environment, EnvSpec, Place
from envpool.statistics import Recorder
from envpool.types import Step

T = TypeVar("T")


class LocalTransport:
    """Opens environments as objects of this process.

    An environment whose card says ``place="inline"`` is called in the pool's own thread. Any other gets a worker thread
    per call, so that a call that hangs costs nobody but its own episode: when its time is up the thread is
    abandoned, and the pool gets another in its place.

    Args:
        threads: how many worker threads may be busy at once.
    """

    def __init__(self, threads: int = 64) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    def running(self, recorder: Recorder | None = None) -> AbstractAsyncContextManager[None]:
        """Nothing to start."""
        return nullcontext()

    async def open(self, spec: EnvSpec) -> LocalSession:
        """Builds the environment."""
        if spec.place == Place.INLINE:
            return LocalSession(await _call_inline(spec.build), _call_inline)
        building = _Building(spec.build)
        try:
            return LocalSession(await self._call_in_thread(building.run), self._call_in_thread)
        except trio.Cancelled:
            building.leave()
            raise

    async def _call_in_thread(self, function: Callable[..., T], *args: object) -> T:
        started = returned = abandoned = False
        trio_token = trio.lowlevel.current_trio_token()

        def run() -> T:
            nonlocal started
            started = True
            try:
                return call_here(function, *args)
            finally:
                with suppress(trio.RunFinishedError):
                    trio_token.run_sync_soon(give_back)

        def give_back() -> None:
            nonlocal returned
            returned = True
            if abandoned:
                self._limiter.total_tokens -= 1

        try:
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._limiter)
        except trio.Cancelled:
            if started and not returned:
                abandoned = True
                self._limiter.total_tokens += 1  # the abandoned thread keeps its token until it returns, if ever
            raise


class _Building:
    """An environment that is built in a thread, and closed if by then nobody waits for it any more."""

    def __init__(self, make: Callable[[], Environment]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._left = False
        self._built: Environment | None = None

    def run(self) -> Environment:
        environment = self._make()
        with self._lock:
            self._built = environment
            left = self._left
        if left:
            environment.close()
        return environment

    def leave(self) -> None:
        with self._lock:
            self._left = True
            built = self._built
        if built is not None:  # it came when nobody looked
            threading.Thread(target=built.close, daemon=True).start()


class _Call(Protocol):
    def __call__(self, function: Callable[..., T], *args: object) -> Awaitable[T]: ...


async def _call_inline(function: Callable[..., T], *args: object) -> T:
    await trio.lowlevel.checkpoint()
    return call_here(function, *args)


class LocalSession:
    """A session around an `Environment` object."""

    def __init__(self, environment: Environment, call: _Call) -> None:
        self._environment = environment
        self._call = call
        self._closed = False

    @property
    def environment(self) -> Environment:
        """The environment itself."""
        return self._environment

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation."""
        return await self._call(self._environment.reset, index)

    async def step(self, action: str) -> Step:
        """Takes one action."""
        return await self._call(self._environment.step, action)

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now."""
        return await self._call(self._environment.available_actions)

    async def aclose(self) -> None:
        """Frees the environment; the second call does nothing."""
        if not self._closed:
            self._closed = True
            await self._call(self._environment.close)
