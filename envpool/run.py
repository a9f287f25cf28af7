"""From plain code into trio and back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

import trio

from envpool.errors import the_one_error
from envpool.policy import PolicyLike
from envpool.pool import EnvPool
from envpool.types import Task, Trajectory

T = TypeVar("T")


def run_sync(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Runs an async function in trio and raises what it raised, not the group that trio wraps around it.

    SIGTERM cancels the function, so that every session is closed before the process ends.

    Raises:
        KeyboardInterrupt: if Ctrl-C is anywhere in the group; Lightning and shells look for it.
        SystemExit: SIGTERM came; the code is 143.
        BaseException: the one error of a group of one; a group of several as it is.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are for the main thread
        return _unwrapped(function, *args)
    sigterm = _Sigterm()
    handler = signal.signal(signal.SIGTERM, sigterm.notice)
    try:
        result = _unwrapped(sigterm.cancels, function, *args)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    if sigterm.came:
        raise SystemExit(128 + signal.SIGTERM)
    return cast(T, result)  # it is there: only SIGTERM cancels


class _Sigterm:
    """Cancels a function when SIGTERM comes, be it before trio has begun.

    An exception raised by a handler could end up in the middle of trio; this one only takes a note and calls trio.
    """

    def __init__(self) -> None:
        self.came = False
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()

    def notice(self, signum: int, frame: object) -> None:
        self.came = True
        if self._token is not None:
            self._token.run_sync_soon(self._scope.cancel)

    async def cancels(self, function: Callable[..., Awaitable[T]], *args: object) -> T | None:
        self._token = trio.lowlevel.current_trio_token()
        if self.came:
            self._scope.cancel()
        try:
            with self._scope:
                return await function(*args)
        finally:
            self._token = None
        return None


def _unwrapped(function: Callable[..., Awaitable[T]], *args: object) -> T:
    try:
        return trio.run(function, *args)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from group
        error = the_one_error(group)
        if error is group:
            raise
        raise error from group


def collect(
    pool: EnvPool,
    tasks: Iterable[Task],
    policy: PolicyLike,
    *,
    samples: int = 1,
    on_trajectory: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Plays every task and returns the trajectories in the order of the tasks, then of the samples.

    Args:
        pool: the pool.
        tasks: the problems, each named once.
        policy: who plays.
        samples: tries per task.
        on_trajectory: called with each trajectory as it finishes.
    """
    tasks = list(tasks)

    async def main() -> list[Trajectory]:
        found = []
        async with pool.run(tasks, policy, samples=samples) as trajectories:
            async for trajectory in trajectories:
                found.append(trajectory)
                if on_trajectory:
                    on_trajectory(trajectory)
        return found

    rank = {task: n for n, task in enumerate(tasks)}
    return sorted(run_sync(main), key=lambda trajectory: (rank[trajectory.task], trajectory.sample))
