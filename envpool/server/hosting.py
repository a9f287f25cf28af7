"""Where the environments of a server live: in its event loop, in threads, or (`workers`) in processes of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from envpool.errors import EnvironmentFailed, SessionLost, UnknownTask
from envpool.guard import call_here, in_one_line, read_actions, read_step, read_text
from envpool.spec import Environment, EnvSpec
from envpool.types import Step

T = TypeVar("T")

STEP_SECONDS = 60.0
"""How long one call to an environment may take that can hang."""


class Hosted(Protocol):
    """One live environment. Its calls are made one after the other; the table of sessions sees to that.

    Every call raises `EnvironmentFailed` if the environment raised, hung or returned nonsense, and `SessionLost` if
    there is no environment any more.
    """

    @property
    def lost(self) -> bool:
        """Whether the environment is gone, so that every further call is in vain."""

    async def reset(self, index: int) -> str:
        """Starts the task `index`; raises `UnknownTask` if there is none."""

    async def step(self, action: str) -> Step:
        """Takes one action."""

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now."""

    async def close(self) -> None:
        """Frees the environment."""


class Host(Protocol):
    """A place where environments live."""

    async def start(self) -> None:
        """Makes sure that environments can be opened; not calling it only delays the complaint.

        Raises:
            EnvPoolError: they cannot.
        """

    async def open(self) -> Hosted:
        """Builds an environment.

        Raises:
            EnvironmentFailed: it could not be built.
        """

    async def aclose(self) -> None:
        """Frees what the host holds; may be called more than once."""


def build(spec: EnvSpec) -> Environment:
    """Builds an environment.

    Raises:
        EnvironmentFailed: it could not be built.
    """
    try:
        return call_here(spec.build)
    except BaseException as error:  # an environment never ends a server, with SystemExit for one
        raise EnvironmentFailed("open", in_one_line(error)) from error


def try_out(spec: EnvSpec) -> None:
    """Builds an environment and closes it, which also loads what it needs.

    Raises:
        EnvironmentFailed: it raised what would end the process, or what no future can hold.
    """
    try:
        spec.build().close()
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise EnvironmentFailed("open", in_one_line(error)) from error


def perform(environment: Environment, call: str, *arguments: int | str) -> Any:
    """Makes one call to an environment and checks what it returns.

    Args:
        environment: whose.
        call: the name of the method.
        arguments: of the method.

    Raises:
        UnknownTask: the environment has no such task.
        EnvironmentFailed: it raised or returned nonsense.
    """
    try:
        return _READ[call](call_here(getattr(environment, call), *arguments), call)
    except (UnknownTask, EnvironmentFailed):
        raise
    except BaseException as error:
        raise EnvironmentFailed(call, in_one_line(error)) from error


_READ: dict[str, Callable[[object, str], Any]] = {
    "reset": read_text,
    "step": read_step,
    "available_actions": read_actions,
    "close": lambda returned, place: None,
}


class InlineHost:
    """Environments in the event loop of the server, for those whose card says `inline`.

    Args:
        spec: their card.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec

    async def start(self) -> None:
        """Builds one environment for a try, which also loads what it needs."""
        try_out(self._spec)

    async def open(self) -> _Inline:
        """Builds an environment."""
        return _Inline(build(self._spec))

    async def aclose(self) -> None:
        """Nothing to free."""


class _Inline:
    lost = False

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    async def reset(self, index: int) -> str:
        text: str = perform(self._environment, "reset", index)
        return text

    async def step(self, action: str) -> Step:
        step: Step = perform(self._environment, "step", action)
        return step

    async def available_actions(self) -> Sequence[str]:
        actions: Sequence[str] = perform(self._environment, "available_actions")
        return actions

    async def close(self) -> None:
        perform(self._environment, "close")


class ThreadHost:
    """Environments in this process, every call in a thread, for those that take their time.

    A call that takes too long costs its session; its thread is left alone and another may start in its place.

    Args:
        spec: their card.
        threads: how many calls may be made at once.
        step_seconds: how long one call may take.
    """

    def __init__(self, spec: EnvSpec, *, threads: int = 64, step_seconds: float = STEP_SECONDS) -> None:
        self._spec = spec
        self._seconds = step_seconds
        self._free = asyncio.Semaphore(threads)

    async def start(self) -> None:
        """Builds one environment for a try, which also loads what it needs."""
        await _in_thread(try_out, self._spec)

    async def open(self) -> _Threaded:
        """Builds an environment."""
        return _Threaded(await self.call("open", build, self._spec, unwanted=_close), self)

    async def aclose(self) -> None:
        """Nothing to free: threads that still run do not keep the process from ending."""

    async def call(
        self, place: str, function: Callable[..., T], *arguments: object, unwanted: Callable[[T], None] | None = None
    ) -> T:
        """Makes one call in a thread.

        Args:
            place: what is called, for errors.
            function: the call.
            *arguments: its arguments.
            unwanted: what to do with the outcome if nobody waits for it any more.

        Raises:
            EnvironmentFailed: it took too long.
        """
        async with self._free:
            try:
                async with asyncio.timeout(self._seconds):
                    return await _in_thread(function, *arguments, unwanted=unwanted)
            except TimeoutError:
                raise EnvironmentFailed(place, f"the environment took more than {self._seconds:g} s") from None


class _Threaded:
    def __init__(self, environment: Environment, host: ThreadHost) -> None:
        self._environment = environment
        self._host = host
        self.lost = False

    async def reset(self, index: int) -> str:
        text: str = await self._call("reset", index)
        return text

    async def step(self, action: str) -> Step:
        step: Step = await self._call("step", action)
        return step

    async def available_actions(self) -> Sequence[str]:
        actions: Sequence[str] = await self._call("available_actions")
        return actions

    async def close(self) -> None:
        await self._call("close")

    async def _call(self, call: str, *arguments: int | str) -> Any:
        if self.lost:
            raise SessionLost(call, "its last call did not end")
        ended = False

        def run() -> Any:
            nonlocal ended
            try:
                return perform(self._environment, call, *arguments)
            finally:
                ended = True

        try:
            return await self._host.call(call, run)
        finally:
            self.lost = not ended  # a thread may still be in it


def _close(environment: Environment) -> None:
    threading.Thread(target=environment.close, name="environment", daemon=True).start()


def _in_thread(
    function: Callable[..., T], *arguments: object, unwanted: Callable[[T], None] | None = None
) -> asyncio.Future[T]:
    """Starts a thread that the interpreter does not wait for when it ends, unlike those of `asyncio.to_thread`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settling: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            settling(outcome)
        elif unwanted is not None and settling == future.set_result:
            unwanted(outcome)

    def run() -> None:
        settling: Callable[[Any], None] = future.set_result
        try:
            outcome: object = function(*arguments)
        except BaseException as error:
            settling, outcome = future.set_exception, error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, settling, outcome)

    threading.Thread(target=run, name="environment", daemon=True).start()
    return future
