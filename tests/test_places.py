"""What holds wherever the sessions of an environment live."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from dataclasses import replace

import pytest
import trio
from known import EMBEDDED
from test_pool import Counting, answer_up, card

from envpool import Call, EnvPool, EnvPoolError, Limits, StopReason, Task, collect
from envpool.__main__ import main as command
from envpool.places.choice import host_of
from envpool.places.local import LocalTransport
from envpool.places.memory import resident_memory
from envpool.places.session import open_session
from envpool.server.asyncio_loop import AsyncioLoop
from envpool.session import Call as CallInProgress
from envpool.session import current_call
from envpool.spec import Place

PLACES = list(Place)

WORLD = '''
import asyncio, os, sys, time
from pathlib import Path
from envpool import Call, EnvSpec, Step, register
from envpool.tools import tool

class Placed:
    """Says where it lives; eats and hangs on request."""

    def reset(self, index):
        self.at = 0
        return f"Count to {index}."

    def step(self, action):
        self.at += 1
        word = action.split()[0]
        if word == "eat":
            self.eaten = b"x" * (int(action.split()[1]) << 20)
        if word == "hang":
            time.sleep(1000)
        if word == "say":
            return Step("y" * int(action.split()[1]), 0.0, False)
        if word == "die":
            print("the last words", file=sys.stderr, flush=True)
            os._exit(3)
        where = f" in {os.getpid()}" if word == "where" else ""
        return Step(f"{self.at} of {len(action)} signs{where}", self.at / 9, self.at == 9, {"at": self.at})

    def available_actions(self):
        return ["up"]

    def close(self):
        pass

class Waits(Placed):
    async def reset(self, index):
        await asyncio.sleep(0)
        return super().reset(index)

    async def step(self, action):
        await asyncio.sleep(0)
        return Step(f"You are at {self.at}.", 1.0, True)

@tool
def add(number: int, text: str = "") -> None:
    """Adds a number."""

class Calls(Placed):
    def step(self, action):
        return Step(f"{action.tool} {dict(action.arguments)!r}", 0.0, False)

def world(name, make, **changes):
    return register(EnvSpec(name=name, version="1", summary="s", instructions="i", brief="b", make=make,
                            tasks=lambda split: range(1, 10), max_turns=9, success_above=0.5, **changes))

PLACED = world("placed", Placed)
WAITS = world("waits", Waits)
CALLS = world("calls", Calls, tools=(add,), takes_calls=True)
TEXTS = world("texts", Placed, tools=(add,))
'''


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A module that worker processes can import too."""
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "placed_worlds.py").write_text(WORLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module("placed_worlds")


def in_place(place, spec, use, **options):
    """What ``use(session)`` returns for a session of the pool."""

    async def main():
        transport = LocalTransport(place, processes=1, **options)
        async with transport.running():
            session = await transport.open(spec)
            try:
                return await use(session)
            finally:
                await session.aclose()

    return trio.run(main)


def on_server(place, spec, use):
    """The same with a session of a server."""

    async def main():
        host, loop = host_of(spec, place, 1), AsyncioLoop()
        session = await open_session(host, loop)
        try:
            return await use(session)
        finally:
            await session.aclose()
            await host.aclose(loop)

    return asyncio.run(main())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("within", [in_place, on_server])
def test_a_session_answers_alike_in_every_place_and_event_loop(within, place, worlds):
    async def use(session):
        first = await session.reset(3)
        return first, await session.step("where"), await session.available_actions()

    first, step, actions = within(place, worlds.PLACED, use)
    own, pid = str(os.getpid()), step.observation.split()[-1]
    assert (first, step.score, step.done, step.info, actions) == ("Count to 3.", 1 / 9, False, {"at": 1}, ["up"])
    assert (pid == own) is (place != Place.PROCESS)


@pytest.mark.parametrize("place", PLACES)
def test_an_action_is_given_to_an_environment_in_the_form_that_it_takes(place, worlds):
    async def call_and_text(session):
        await session.reset(3)
        call = Call("add", {"number": 7, "text": 'a\n"b"'})
        said = [(await session.step(action)).observation for action in (call, texts, "add 7")]
        return said

    texts = 'add with Action Input: {"number": 7, "text": "a"}'
    call, text, wrong = in_place(place, worlds.CALLS, call_and_text)
    assert call == "add " + repr({"number": 7, "text": 'a\n"b"'})
    assert text == "add {'number': 7, 'text': 'a'}"
    assert "not a call of a function" in wrong

    async def only_call(session):
        await session.reset(3)
        return (await session.step(Call("add", {"number": 7}))).observation

    written = 'add with Action Input: {"number": 7}'
    assert f"of {len(written)} signs" in in_place(place, worlds.TEXTS, only_call)


@pytest.mark.parametrize("place", [Place.THREAD, Place.PROCESS])
def test_async_environments_live_in_threads_and_processes(place, worlds):
    played = collect(EnvPool(transport=LocalTransport(place)), [Task("waits", n) for n in range(1, 9)], answer_up)
    assert [t.error for t in played] == [None] * 8
    assert all(t.success for t in played)


@pytest.mark.parametrize("place", [Place.INLINE, Place.THREAD, Place.PROCESS])
def test_no_more_sessions_are_built_or_live_at_once_than_the_card_says_and_waiting_is_no_step_time(place, worlds):
    class Watched(Counting):
        living = building = 0
        most_living = most_building = 0

        def __init__(self):
            kind = type(self)
            kind.building += 1
            kind.most_building = max(kind.most_building, kind.building)
            gate.wait(0.03)
            kind.building -= 1
            kind.living += 1
            kind.most_living = max(kind.most_living, kind.living)
            super().__init__()

        def close(self):
            type(self).living -= 1

    gate = threading.Event()
    if place == Place.PROCESS:  # what can be seen from outside: where the sessions are, and that all are played
        spec = replace(worlds.PLACED, most_sessions=3, most_building=1)
    else:
        spec = card(f"limited-{place}", Watched, place=place, most_sessions=3, most_building=1)
    live = most = 0

    async def main():
        nonlocal live, most
        transport = LocalTransport(place, processes=1)

        async def one():
            nonlocal live, most
            with trio.move_on_after(0.5) as limit:
                current_call.set(CallInProgress(limit))
                session = await transport.open(spec)
            assert not limit.cancelled_caught
            live += 1
            most = max(most, live)
            await session.reset(1)
            await trio.sleep(0.1)
            live -= 1
            await session.aclose()

        async with transport.running(), trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)

    trio.run(main)
    assert most <= 3
    if place != Place.PROCESS:
        assert (Watched.most_living, Watched.most_building, Watched.living) == (3, 1, 0)


def policy_of(**actions):
    async def policy(conversation):
        index = conversation[0].content.rpartition("Count to ")[2].removesuffix(".")
        return f"Action:\n{actions.get(f'on_{index}', 'up') if len(conversation) == 5 else 'up'}"

    return policy


def test_a_call_that_hangs_in_a_process_costs_its_own_episode_and_the_others_are_played_again(worlds):
    pool = EnvPool(sessions=4, transport=LocalTransport("process", processes=1), limits=Limits(step_seconds=1))
    hung, *others = collect(pool, [Task("placed", n) for n in range(1, 5)], policy_of(on_1="hang"))
    assert (hung.stop, hung.error) == (StopReason.ERROR, "turn 3: the environment took more than 1 s")
    assert [(t.stop, len(t.turns)) for t in others] == [(StopReason.DONE, 9)] * 3
    assert pool.statistics().replays >= 1


@pytest.mark.parametrize(("action", "cause"), [("die", "ended: the last words"), ("eat 300", "more than 1 session of")])
def test_a_worker_that_ends_again_and_again_or_grows_too_large_is_an_error_with_its_cause(action, cause, worlds):
    async def use(session):
        await session.reset(1)
        await session.step(action)
        for _ in range(100_000):  # its memory is looked at now and then
            await session.step("up")

    spec = replace(worlds.PLACED, most_memory=100)
    large = b"x" * (500 * 2**20)  # a new process is told the largest size of the one that started it as its own
    with pytest.raises(EnvPoolError, match=cause):
        in_place("process", spec, use, replays=1)
    del large


def test_the_memory_of_a_process_is_told():
    assert resident_memory([os.getpgrp()])[os.getpgrp()] > 10
    assert resident_memory([2**22 + 1]) == {}


def test_a_worker_takes_and_gives_what_is_larger_than_a_pipe(worlds):
    async def use(session):
        await session.reset(1)
        taken, given = await session.step("x" * 3_000_000), await session.step("say 3000000")
        return taken.observation, len(given.observation)

    for within in (in_place, on_server):
        taken, given = within("process", worlds.PLACED, use)
        assert taken.startswith("1 of 3000000 signs")
        assert given == 3_000_000


def test_a_place_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(EnvPoolError, match="place='proces' is not one of inline, thread, process; did you mean 'proc"):
        LocalTransport("proces")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_command_checks_an_environment_in_any_place(name, place, capsys):
    assert command(["check", name, "--place", place, "--tasks", "1"]) == 0
    assert f"{name} ({place})" in capsys.readouterr().out
