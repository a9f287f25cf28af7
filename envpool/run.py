"""From plain code into trio and back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

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
    try:
        return trio.run(_until_terminated, function, args)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from group
        error = the_one_error(group)
        if error is group:
            raise
        raise error from group


async def _until_terminated(function: Callable[..., Awaitable[T]], args: Sequence[object]) -> T:
    if threading.current_thread() is not threading.main_thread():  # signals are for the main thread
        return await function(*args)
    terminated = False

    async def watch() -> None:
        nonlocal terminated
        async for _ in signals:
            terminated = True
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            result = await function(*args)
            nursery.cancel_scope.cancel()
    if terminated:
        raise SystemExit(128 + signal.SIGTERM)
    return result


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
