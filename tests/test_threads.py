"""Environments whose calls are made in threads, and what becomes of a thread that nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import trio
from test_pool import RAISED, SCORES, breaking, card, raising

from envpool.errors import EnvironmentFailed
from envpool.server.hosting import InlineHost, ThreadHost
from envpool.transports.local import LocalTransport, _Building
from envpool.types import Step


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
        with trio.move_on_after(10) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(LocalTransport().open, spec)
                await trio.to_thread.run_sync(slow.building.wait)
                scope.cancel()
        slow.may_be_built.set()
        assert await trio.to_thread.run_sync(slow.closed.wait, 10)

    trio.run(main)


def test_one_that_was_built_when_nobody_looked_is_closed_too():
    slow = Slow()
    slow.may_be_built.set()
    building = _Building(slow.make)
    assert building.run() is slow  # and trio has not heard of it when the task is cancelled
    building.leave()
    assert slow.closed.wait(10)


def test_a_server_closes_what_is_built_too_late():
    slow = Slow()
    spec = card("slow_served", make=slow.make, place="thread")

    async def main():
        with pytest.raises(EnvironmentFailed, match="took more than"):
            await ThreadHost(spec, step_seconds=0.1).open()
        slow.may_be_built.set()
        assert await asyncio.to_thread(slow.closed.wait, 10)

    asyncio.run(main())


def test_threads_that_come_back_do_not_leave_more_than_there_may_be():
    transport = LocalTransport(threads=2)
    free = threading.Event()

    async def main():
        limiter = transport._limiter
        for _ in range(5):
            with trio.move_on_after(0.05):
                await transport._call_in_thread(free.wait, 10)
        assert limiter.total_tokens == 7
        free.set()
        while limiter.total_tokens > 2:  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.01)
        assert await transport._call_in_thread(lambda: 3) == 3

    trio.run(main)


@pytest.mark.parametrize("host", [InlineHost, ThreadHost])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_an_environment_raises_on_a_server_is_a_failure_of_that_call(host, name):
    error, told = RAISED[name]
    spec = card(f"served-{name}-{host.__name__}", make=breaking(step=raising(error), close=raising(error)))

    async def main():
        hosted = await host(spec).open()
        await hosted.reset(1)
        for call in (lambda: hosted.step("up"), hosted.close):
            with pytest.raises(EnvironmentFailed) as failure:
                await call()
            assert failure.value.cause[:20] == ("StopIteration: end" if name == "stop-iteration" else told)[:20]
        with pytest.raises(EnvironmentFailed, match="open: "):
            await host(replace(spec, make=lambda: raising(error)(None))).open()

    asyncio.run(main())


@pytest.mark.parametrize("name", SCORES)
def test_a_server_reads_scores_as_the_pool_does(name):
    given, expected = SCORES[name]
    spec = card(f"served-score-{name}", make=breaking(step=lambda self, action: Step("end", given, True)))

    async def main():
        hosted = await InlineHost(spec).open()
        await hosted.reset(1)
        if expected is None:
            with pytest.raises(EnvironmentFailed, match="the environment returned the score"):
                await hosted.step("up")
        else:
            assert await hosted.step("up") == Step("end", expected, True)

    asyncio.run(main())
