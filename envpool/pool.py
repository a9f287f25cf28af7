"""The pool: many sessions at once, bounded, streamed as they finish."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import trio

from envpool.episode import Limits, Rules, run_episode
from envpool.errors import EnvPoolError, the_one_error
from envpool.formats import ActionFormat, check_format, format_for
from envpool.places.local import LocalTransport
from envpool.policy import Policy, PolicyLike, as_policy
from envpool.registry import get_spec
from envpool.session import Transport
from envpool.spec import EnvSpec
from envpool.statistics import Recorder, Statistics
from envpool.types import Task, Trajectory


class EnvPool:
    """Plays episodes of any environments with any policy, many at once.

    Args:
        sessions: how many episodes are played at once, at most.
        format: how thought and action are written: ``react``, ``function_calling``, ``code_as_action``, or one of
            your own.
        brief: give the environments' one-line instructions instead of the complete ones.
        prompts: what to say instead of instructions and answer format, word for word, by environment name.
        max_turns: turn limits that differ from the environments' own, by environment name.
        limits: time limits.
        transport: where sessions come from; if None, this machine, in the places that the environments' cards say.
        specs: cards that their names mean in this pool, as those of `EnvSpec.with_options`; other names mean what they
            mean where it runs.

    Raises:
        EnvPoolError: `sessions` is not positive, or there is no such format.
    """

    def __init__(
        self,
        *,
        sessions: int = 64,
        format: str | ActionFormat = "react",
        brief: bool = False,
        prompts: Mapping[str, str] | None = None,
        max_turns: Mapping[str, int] | None = None,
        limits: Limits | None = None,
        transport: Transport | None = None,
        specs: Iterable[EnvSpec] = (),
    ) -> None:
        if sessions < 1:
            raise EnvPoolError(f"a pool needs at least one session, not {sessions}")
        self.sessions = sessions
        if isinstance(format, str):
            check_format(format)
        self._recorder = Recorder(trio.current_time)
        self._format = format
        self._brief = brief
        self._prompts = dict(prompts or {})
        self._max_turns = dict(max_turns or {})
        self._limits = limits or Limits()
        self._transport = transport or LocalTransport()
        self._specs = {spec.name: spec for spec in specs}
        self._scopes: set[trio.CancelScope] = set()
        self._stopped = False

    @asynccontextmanager
    async def run(
        self, tasks: Iterable[Task], policy: PolicyLike, *, samples: int = 1
    ) -> AsyncIterator[AsyncIterator[Trajectory]]:
        """Plays every task `samples` times and streams the trajectories in the order in which they finish.

        Use it as ``async with pool.run(tasks, policy) as trajectories: async for trajectory in trajectories``.
        Leaving the block early cancels what is being played and closes every session. No more than
        `sessions` episodes are in flight, finished ones that nobody has taken yet included.

        Args:
            tasks: the problems; may be endless.
            policy: a `Policy`, or a function from the conversation to the answer: of trio, of asyncio, or not async.
            samples: tries per task.

        Raises:
            UnknownEnvironment: a task names an environment that there is not.
            EnvPoolError: it is not called in trio, or `policy` is neither a policy nor a function.
        """
        if not trio.lowlevel.in_trio_task():
            raise EnvPoolError(
                "a pool plays in trio, and not in asyncio: call envpool.run_sync(main), or envpool.collect"
            )
        player = as_policy(policy)
        jobs = ((task, sample) for task in tasks for sample in range(samples))
        send, receive = trio.open_memory_channel[Trajectory](0)
        load = _Load(self._recorder)
        self._recorder.begin()
        try:
            with _calm_collector(self.sessions):
                async with (
                    player.running(load),
                    self._transport.running(self._recorder),
                    trio.open_nursery() as nursery,
                ):
                    for _, first in zip(range(self.sessions), jobs, strict=False):
                        load.change(+1)
                        nursery.start_soon(self._work, first, jobs, player, load, send.clone())
                    send.close()
                    yield _Stream(receive)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = the_one_error(group)
            if error is group:
                raise
            raise error from group
        finally:
            self._recorder.end()

    def statistics(self) -> Statistics:
        """What the pool is doing and has done; to be called within trio while it runs, or before or after."""
        return self._recorder.statistics()

    def stop(self) -> None:
        """Ends all running episodes as ``CANCELLED`` and starts no more; `run` streams their records and ends."""
        self._stopped = True
        for scope in self._scopes:
            scope.cancel()

    async def _work(
        self,
        job: tuple[Task, int] | None,
        jobs: Iterator[tuple[Task, int]],
        policy: Policy,
        load: _Load,
        send: trio.MemorySendChannel[Trajectory],
    ) -> None:
        """Plays one episode after the other until there are no more jobs.

        The next job is taken without letting any other task run in between, so that the episodes in flight are
        the same in every run (see `Load.live`).
        """
        rules: dict[str, Rules] = {}
        with send:  # without a checkpoint, which could turn an error into a cancellation
            try:
                while job is not None and not self._stopped:
                    task, sample = job
                    if task.environment not in rules:
                        spec = self._specs.get(task.environment) or get_spec(task.environment)
                        rules[task.environment] = self._rules(spec)
                    with self._cancellable() as scope:
                        trajectory = await run_episode(
                            task, sample, policy, self._transport, rules[task.environment], scope
                        )
                    self._recorder.finished[trajectory.stop] += 1
                    await send.send(trajectory)
                    job = next(jobs, None)
            finally:
                load.change(-1)

    @contextmanager
    def _cancellable(self) -> Iterator[trio.CancelScope]:
        """A scope that `stop` cancels."""
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            yield scope
        finally:
            self._scopes.discard(scope)

    def _rules(self, spec: EnvSpec) -> Rules:
        format = format_for(self._format, spec) if isinstance(self._format, str) else self._format
        own = spec.brief if self._brief else f"{spec.instructions}\n\n{format.instructions}"
        return Rules(
            spec=spec,
            format=format,
            prompt=self._prompts.get(spec.name, own),
            max_turns=self._max_turns.get(spec.name, spec.max_turns),
            limits=self._limits,
            recorder=self._recorder,
        )


_usual: list[int] = []
"""The garbage collector's thresholds outside all runs."""

_runs: list[int] = []
"""The first threshold that each run that is going on asks for."""


@contextmanager
def _calm_collector(sessions: int) -> Iterator[None]:
    """Lets Python look for garbage less often while many sessions are live; afterwards as before.

    It goes through new objects after every few hundred, and through all of them as their number grows; with 2,048
    sessions that took a fifth of the time. What waits longer to be freed is a few megabytes at most.
    """
    wanted = 50 * sessions
    if not _runs:
        _usual[:] = gc.get_threshold()
    _runs.append(wanted)
    _set_thresholds()
    try:
        yield
    finally:
        _runs.remove(wanted)
        _set_thresholds()


def _set_thresholds() -> None:
    first, *others = _usual
    gc.set_threshold(max(first, *_runs, 0) if first else 0, *others)  # 0: the user has switched it off


class _EndHere(trio.abc.Instrument):
    """Ends a process when its task lets others run."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        os._exit(1)


def _end_child() -> None:
    """A process that a policy or an environment forked may do its own work, but never go on as the pool.

    It has a copy of all sessions and shares their connections with this process.
    """
    if _runs and trio.lowlevel.in_trio_run():
        trio.lowlevel.add_instrument(_EndHere())


os.register_at_fork(after_in_child=_end_child)


class _Stream:
    """Finished trajectories. All that are there are taken at once: one a round of trio would hold up the sessions."""

    def __init__(self, finished: trio.MemoryReceiveChannel[Trajectory]) -> None:
        self._finished = finished

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Trajectory:
        try:
            return self._finished.receive_nowait()
        except trio.WouldBlock:
            return await self._finished.__anext__()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class _Load:
    """Tells a policy how many episodes are live."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._changed = trio.Event()

    @property
    def live(self) -> int:
        return self._recorder.live

    async def wait_change(self) -> None:
        await self._changed.wait()

    def change(self, by: int) -> None:
        self._recorder.live += by
        self._changed.set()
        self._changed = trio.Event()
