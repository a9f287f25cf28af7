"""Environments that have a thread each, for as long as their session lives."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from envpool.errors import SessionLost
from envpool.places.hosts import Loop, failed
from envpool.places.live import Live
from envpool.spec import Environment, EnvSpec


class Threaded:
    """An environment that is built, called and closed in one thread of its own.

    A call that hangs is left alone with its thread: `close` is carried out when it comes back, if ever. The interpreter
    does not wait for the thread when it ends.

    Args:
        spec: its card.
    """

    queues = False

    def __init__(self, spec: EnvSpec) -> None:
        self.lost = False
        self._spec = spec
        self._live: Live | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.built: Future[None] = self._ask(self._build)
        threading.Thread(target=_work, args=(self._jobs,), name=f"session of {spec.name}", daemon=True).start()

    @property
    def environment(self) -> Environment | None:
        """The environment itself; None until it is built."""
        return None if self._live is None else self._live.environment

    def call(self, name: str, *arguments: Any, seconds: float) -> Future[Any]:
        """Makes one call; whoever waits for it keeps the time."""
        if self._live is None or self.lost:
            return failed(SessionLost(name, "its environment is closed"))
        call = self._live.call
        return self._ask(lambda runner: call(name, *arguments))

    def close(self) -> Future[None]:
        """Frees the environment after its last call, and ends the thread."""
        self.lost = True
        closed: Future[None] = self._ask(self._close)
        self._jobs.put(None)
        return closed

    def _build(self, runner: asyncio.Runner) -> None:
        self._live = Live(self._spec, runner)

    def _close(self, runner: asyncio.Runner) -> None:
        if self._live is not None:
            self._live.call("close")

    def _ask(self, work: Callable[[asyncio.Runner], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.put((future, work))
        return future


_Job = tuple[Future[Any], Callable[[asyncio.Runner], Any]]


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    with asyncio.Runner() as runner:  # makes a loop only for an environment that needs one
        while (job := jobs.get()) is not None:
            _carry_out(*job, runner)
            del job  # or it lives until there is something else to do


def _carry_out(future: Future[Any], work: Callable[[asyncio.Runner], Any], runner: asyncio.Runner) -> None:
    try:
        outcome = work(runner)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(outcome)


class ThreadHost:
    """A place for environments that take their time, or have to be called in one and the same thread.

    Args:
        spec: their card.
    """

    workers = 1

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec

    def open(self, loop: Loop) -> Threaded:
        """Starts a thread that builds an instance."""
        return Threaded(self._spec)

    async def aclose(self, loop: Loop) -> None:
        """Nothing to free: each session has ended its thread, and one that hangs keeps no process from ending."""
