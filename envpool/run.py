"""From plain code into trio and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from envpool.policy import PolicyLike
from envpool.pool import EnvPool
from envpool.types import Task, Trajectory

T = TypeVar("T")


def run_sync(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Runs an async function in trio and raises what it raised, not the group that trio wraps around it.

    Raises:
        KeyboardInterrupt: if Ctrl-C is anywhere in the group; Lightning and shells look for it.
        BaseException: the one error of a group of one; a group of several as it is.
    """
    try:
        return trio.run(function, *args)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from group
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
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
