"""Functions as policies: of trio, of asyncio, and plain ones."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest
import trio

from envpool import EnvPool, EnvPoolError, Limits, StopReason, Task, collect

TASKS = [Task("maze", index) for index in range(8)]
TEXT = "Thought:\nWhy not?\n\nAction:\nmove up"


def play(policy, **options):
    return collect(EnvPool(max_turns={"maze": 3}, **options), TASKS, policy)


async def in_trio(conversation):
    await trio.lowlevel.checkpoint()
    return TEXT


async def sleeps(conversation):
    await asyncio.sleep(0)
    return TEXT


async def waits_for_a_future(conversation):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, TEXT)
    return await future


async def gathers(conversation):
    return (await asyncio.gather(sleeps(conversation), asyncio.wait_for(sleeps(conversation), 10)))[0]


async def in_another_thread(conversation):
    return await asyncio.to_thread(lambda: TEXT)


def plain(conversation):
    return TEXT


class Minded:
    async def __call__(self, conversation):
        return await sleeps(conversation)

    async def method(self, conversation):
        return await sleeps(conversation)

    def plain(self, conversation):
        return TEXT


FUNCTIONS = {
    "trio": in_trio,
    "asyncio": sleeps,
    "future": waits_for_a_future,
    "gather": gathers,
    "thread": in_another_thread,
    "plain": plain,
    "object": Minded(),
    "method": Minded().method,
    "plain method": Minded().plain,
    "partial": functools.partial(sleeps),
    "lambda": lambda conversation: sleeps(conversation),
    "lambda of trio": lambda conversation: in_trio(conversation),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_plays(name):
    before = threading.active_count()
    trajectories = play(FUNCTIONS[name])
    assert [trajectory.stop for trajectory in trajectories] == [StopReason.MAX_TURNS] * len(TASKS)
    assert all(turn.completion.text == TEXT for trajectory in trajectories for turn in trajectory.turns)
    assert not [thread for thread in threading.enumerate() if thread.name == "asyncio policy"]
    assert threading.active_count() <= before + 2  # trio keeps idle threads for a while


def test_a_function_that_gathers_plays_also_where_asyncio_ran_before():
    asyncio.run(asyncio.sleep(0))  # which leaves the thread without a loop
    assert {trajectory.stop for trajectory in play(gathers)} == {StopReason.MAX_TURNS}


def test_calls_in_asyncio_wait_for_each_other_if_they_like():
    together, all_here = set(), asyncio.Event()

    async def policy(conversation):
        await asyncio.sleep(0)
        together.add(str(conversation))
        if len(together) == len(TASKS):
            all_here.set()
        await all_here.wait()
        return TEXT

    assert {trajectory.stop for trajectory in play(policy, sessions=len(TASKS))} == {StopReason.MAX_TURNS}


def test_plain_calls_are_made_one_at_a_time():
    inside = most = 0

    def policy(conversation):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        inside -= 1
        return TEXT

    play(policy)
    assert most == 1


@pytest.mark.parametrize("error", [KeyError("lost"), SystemExit(3), asyncio.CancelledError(), RuntimeError("mine")])
def test_what_an_asyncio_function_raises_is_the_failure_of_its_episode(error):
    async def policy(conversation):
        await asyncio.sleep(0)
        if "number 3" in str(conversation) or len(conversation) > 3:
            raise error
        return TEXT

    trajectories = play(policy)
    assert {trajectory.stop for trajectory in trajectories} == {StopReason.ERROR}
    assert all(type(error).__name__ in trajectory.error or "mine" in trajectory.error for trajectory in trajectories)


def test_an_asyncio_function_that_takes_too_long_is_cancelled():
    cancelled = []

    async def policy(conversation):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(conversation)
            raise

    trajectories = play(policy, limits=Limits(policy_seconds=0.05))
    assert {trajectory.stop for trajectory in trajectories} == {StopReason.ERROR}
    assert "more than 0.05 s" in trajectories[0].error
    assert len(cancelled) == len(TASKS)


def test_what_is_no_function_is_refused_once():
    with pytest.raises(EnvPoolError, match="neither a policy nor a function"):
        play("walk")


def test_a_pool_that_is_entered_in_asyncio_says_where_it_plays():
    async def main():
        async with EnvPool().run(TASKS, plain) as trajectories:
            return [trajectory async for trajectory in trajectories]

    with pytest.raises(
        EnvPoolError, match=r"^a pool plays in trio, and not in asyncio: call envpool\.run_sync\(main\)"
    ):
        asyncio.run(main())
