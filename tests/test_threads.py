"""Environments that have a thread each, and what becomes of a thread that nobody waits for any more."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading

import pytest
import trio
from test_pool import RAISED, SCORES, Counting, answer_up, breaking, card, play, raising

from envpool import EnvPool, Limits, Step, StopReason, Task, collect
from envpool.errors import EnvironmentFailed
from envpool.places.inline import InlineHost
from envpool.places.local import LocalTransport
from envpool.places.session import open_session
from envpool.places.thread import ThreadHost
from envpool.server.asyncio_loop import AsyncioLoop
from envpool.session import current_call


class Sqlite(Counting):
    """Counts in a database, which belongs to the thread that opened it."""

    def __init__(self):
        self.base = sqlite3.connect(":memory:")

    def reset(self, index):
        self.base.executescript("drop table if exists n; create table n (at); insert into n values (0)")
        self.goal = index
        return f"Count to {index}."

    def step(self, action):
        self.base.execute("update n set at = at + 1")
        ((at,),) = self.base.execute("select at from n")
        return Step(f"You are at {at}.", float(at == self.goal), at == self.goal)

    def close(self):
        self.base.close()


class Handle(Counting):
    """Speaks over a handle that one thread may use, as py4j's and Playwright's."""

    def __init__(self):
        super().__init__()
        self.owner = threading.get_ident()

    def __getattribute__(self, name):
        if name != "owner" and threading.get_ident() != object.__getattribute__(self, "owner"):
            raise RuntimeError("the handle belongs to another thread")
        return object.__getattribute__(self, name)


class Async(Counting):
    """Waits for itself, with a lock that belongs to the event loop of its first call."""

    lock = None

    async def reset(self, index):
        self.lock = self.lock or asyncio.Lock()
        self.task = asyncio.create_task(asyncio.sleep(0))
        return super().reset(index)

    async def step(self, action):
        async with self.lock:
            await self.task
            return super().step(action)

    async def close(self):
        await asyncio.sleep(0)
        super().close()


def session_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("session of")]


def no_thread_is_left() -> bool:
    for thread in session_threads():
        thread.join(10)
    return not session_threads()


@pytest.mark.parametrize("kind", [Sqlite, Handle, Async])
def test_an_environment_that_belongs_to_one_thread_plays_every_episode_and_no_thread_is_left(kind):
    name = f"bound-{kind.__name__}"
    card(name, kind, place="thread", tasks=lambda split: range(1, 41), max_turns=50, expert=None)
    pool = EnvPool(sessions=64)
    played = collect(pool, [Task(name, index) for index in range(1, 41)], answer_up)
    assert [t.error for t in played] == [None] * 40
    assert all(t.success for t in played)
    assert pool.statistics().abandoned == 0
    assert no_thread_is_left()


def test_an_environment_with_async_methods_is_refused_inline_with_a_cure():
    card("async-inline", Async, place="inline", expert=None)
    (played,) = play([Task("async-inline", 1)])
    assert played.error == "open: async-inline has async methods: give it place=thread or place=process"


def test_a_thread_that_hangs_costs_its_own_episode_is_counted_and_closes_its_environment_when_it_comes_back():
    free, closed = threading.Event(), threading.Event()
    owners = []

    def step(self, action):
        owners.append(threading.get_ident())
        free.wait(60)
        return Step("", 0.0, False)

    def close(self):
        owners.append(threading.get_ident())
        closed.set()

    card("hangs-in-its-thread", breaking(step=step, close=close), place="thread")
    pool = EnvPool(sessions=2, limits=Limits(step_seconds=0.2))
    tasks = [Task("counting", 2), Task("hangs-in-its-thread", 1), Task("counting", 3)]
    good, bad, also_good = collect(pool, tasks, answer_up)
    assert (good.success, also_good.success) == (True, True)
    assert (bad.stop, bad.error) == (StopReason.ERROR, "turn 1: the environment took more than 0.2 s")
    assert pool.statistics().abandoned == 1
    assert not closed.is_set()
    free.set()
    assert closed.wait(10)
    assert owners[0] == owners[1]
    assert no_thread_is_left()


class Slow:
    """Is built when it may be, and says that it was closed."""

    def __init__(self) -> None:
        self.may_be_built = threading.Event()
        self.closed = threading.Event()
        self.building = threading.Event()

    def make(self) -> Slow:
        self.building.set()
        assert self.may_be_built.wait(10)
        return self

    def close(self) -> None:
        self.closed.set()


def test_an_environment_that_is_built_too_late_is_closed():
    slow = Slow()
    spec = card("slow_here", make=slow.make, place="thread")

    async def main():
        current_call.set(None)
        transport = LocalTransport()
        async with transport.running(), trio.open_nursery() as nursery:
            nursery.start_soon(transport.open, spec)
            await trio.to_thread.run_sync(slow.building.wait)
            nursery.cancel_scope.cancel()
        slow.may_be_built.set()
        assert await trio.to_thread.run_sync(slow.closed.wait, 10)

    trio.run(main)
    assert no_thread_is_left()


def test_a_server_closes_what_is_built_too_late():
    slow = Slow()
    spec = card("slow_served", make=slow.make, place="thread")

    async def main():
        loop = AsyncioLoop(0.1)
        with pytest.raises(EnvironmentFailed, match="took more than"):
            await open_session(ThreadHost(spec), loop)
        slow.may_be_built.set()
        assert await asyncio.to_thread(slow.closed.wait, 10)
        assert loop.hung == 1

    asyncio.run(main())
    assert no_thread_is_left()


HANGS = """
import threading
from envpool import EnvPool, EnvSpec, Limits, Task, collect, register

class World:
    def reset(self, index):
        threading.Event().wait()

register(EnvSpec(name="hangs", version="1", summary="s", instructions="i", brief="b", make=World,
                 tasks=lambda split: range(6), max_turns=9, success_above=0.5))

async def policy(conversation):
    raise AssertionError

(played,) = collect(EnvPool(limits=Limits(step_seconds=0.1)), [Task("hangs", 1)], policy)
print(played.error, flush=True)
"""


def test_a_process_does_not_wait_for_a_thread_that_hangs_when_it_ends():
    run = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "reset: the environment took more than 0.1 s\n"), run.stderr


@pytest.mark.parametrize("host", [InlineHost, ThreadHost])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_an_environment_raises_on_a_server_is_a_failure_of_that_call(host, name):
    error, told = RAISED[name]
    spec = card(f"served-{name}-{host.__name__}", make=breaking(step=raising(error), close=raising(error)))

    async def main():
        loop = AsyncioLoop()
        session = await open_session(host(spec), loop)
        await session.reset(1)
        for call in (lambda: session.step("up"), session.aclose):
            with pytest.raises(EnvironmentFailed) as failure:
                await call()
            assert failure.value.cause[:20] == ("StopIteration: end" if name == "stop-iteration" else told)[:20]
        broken = card(f"not-built-{name}-{host.__name__}", make=lambda: raising(error)(None))
        with pytest.raises(EnvironmentFailed, match="open: "):
            await open_session(host(broken), loop)

    asyncio.run(main())


@pytest.mark.parametrize("name", SCORES)
def test_a_server_reads_scores_as_the_pool_does(name):
    given, expected = SCORES[name]
    spec = card(f"served-score-{name}", make=breaking(step=lambda self, action: Step("end", given, True)))

    async def main():
        session = await open_session(InlineHost(spec), AsyncioLoop())
        await session.reset(1)
        if expected is None:
            with pytest.raises(EnvironmentFailed, match="the environment returned the score"):
                await session.step("up")
        else:
            assert await session.step("up") == Step("end", expected, True)

    asyncio.run(main())
