from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import trio
import trio.lowlevel
import trio.testing

import envpool
from envpool import Completion, EnvPool, EnvSpec, Limits, Step, StopReason, Task, collect, run_sync
from envpool.episode import LONGEST_ANSWER


class Counting:
    """Counts to a number: the action ``up`` adds one; the index is the number."""

    open_worlds = 0

    def __init__(self) -> None:
        type(self).open_worlds += 1
        self.goal = self.at = 0

    def reset(self, index: int) -> str:
        self.goal, self.at = index, 0
        return f"Count to {index}."

    def step(self, action: str) -> Step:
        self.at += action == "up"
        return Step(f"You are at {self.at}.", float(self.at == self.goal), self.at == self.goal)

    def available_actions(self) -> Sequence[str]:
        return ["up", "stay"]

    def close(self) -> None:
        type(self).open_worlds -= 1


def count_up(world: Counting):
    while True:
        yield f"At {world.at} of {world.goal}.", "up"


def card(name: str, make=Counting, **changes) -> EnvSpec:
    spec = EnvSpec(
        name=name, version="1", summary="counts", instructions="Count with up.", brief="Count.", make=make,
        tasks=lambda split: range(1, 10), max_turns=5, success_above=0.5, expert=count_up, place="inline",
    )  # fmt: skip
    return envpool.register(replace(spec, **changes))


COUNTING = card("counting")


async def answer_up(conversation) -> str:
    return "Action:\nup"


def play(tasks, policy=answer_up, samples=1, **options):
    return collect(EnvPool(**options), tasks, policy, samples=samples)


def test_an_episode_is_recorded_from_reset_to_done():
    (trajectory,) = play([Task("counting", 2)])
    assert (trajectory.stop, trajectory.score, trajectory.success) == (StopReason.DONE, 1.0, True)
    assert [turn.observation for turn in trajectory.turns] == ["You are at 1.", "You are at 2."]
    assert [message.role for message in trajectory.messages] == ["user", "assistant", "user", "assistant"]
    assert trajectory.messages[0].content.endswith("<the action>\n\nCount to 2.")


def test_a_turn_says_how_long_policy_and_environment_took():
    class Slow(envpool.places.local.LocalTransport):
        """Opens sessions whose steps take half a second."""

        async def open(self, spec):
            session = await super().open(spec)
            step = session.step

            async def slow_step(action: str) -> Step:
                await trio.sleep(0.5)
                return await step(action)

            session.step = slow_step
            return session

    async def ponders(conversation) -> str:
        await trio.sleep(2)
        return "Action:\nup" if len(conversation) > 1 else "I do not know."

    async def main():
        async with EnvPool(transport=Slow()).run([Task("counting", 1)], ponders) as trajectories:
            return [trajectory async for trajectory in trajectories]

    (trajectory,) = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    first, second = trajectory.turns
    assert (first.action, first.policy_seconds, first.environment_seconds) == (None, 2.0, 0.0)
    assert (second.action, second.policy_seconds, second.environment_seconds) == ("up", 2.0, 0.5)
    assert replace(second, policy_seconds=0.0, environment_seconds=0.0) == second  # time is no part of what happened


def test_the_turn_limit_ends_an_episode_without_success():
    (trajectory,) = play([Task("counting", 9)])
    assert (trajectory.stop, trajectory.score, trajectory.success) == (StopReason.MAX_TURNS, 0.0, False)
    assert len(trajectory.turns) == 5


def test_a_recipe_can_set_another_turn_limit():
    (trajectory,) = play([Task("counting", 9)], max_turns={"counting": 9})
    assert trajectory.success


def test_an_answer_without_action_is_corrected_and_costs_a_turn():
    async def mumbles_first(conversation) -> str:
        return "Action:\nup" if len(conversation) > 1 else "I do not know."

    (trajectory,) = play([Task("counting", 1)], mumbles_first)
    assert [turn.action for turn in trajectory.turns] == [None, "up"]
    assert "Action:" in trajectory.turns[0].observation
    assert trajectory.success


CUT_SHORT = {
    "a line": ("react", "Thought:\nUp.\n\nAction:\nmove up", None),
    "a line that goes on": ("react", "Action:\nmove up with ease and", None),
    "a block that is closed": ("react", "Action:\n```\nmove up\n```", "move up"),
    "a call": ("function_calling", '{"name": "act", "arguments": {"action": "move up"}}', "move up"),
    "half a call": ("function_calling", '{"name": "act", "arguments": {"action": "mo', None),
    "code that is closed": ("code_as_action", '```python\nact(action="move up")\n```\n', "move up"),
    "a native call": ("native", '<tool_call>{"name": "act", "arguments": {"action": "move up"}}', "move up"),
    "half a native call": ("native", '<tool_call>{"name": "act", "arguments": {"action": "mo', None),
    "a parameter that may go on": ("native", "<function=act><parameter=action>move up</parameter>", None),
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_an_answer_that_was_cut_is_carried_out_only_if_its_action_ends_before_the_cut(case):
    format, text, action = CUT_SHORT[case]

    class Cut:
        name = "cut"

        def running(self, load):
            return nullcontext()

        @asynccontextmanager
        async def actor(self, episode):
            class Actor:
                async def act(self, observation):
                    return Completion(text, cut=True)

            yield Actor()

    (trajectory,) = play([Task("counting", 9)], Cut(), format=format)
    assert {turn.action for turn in trajectory.turns} == {action}
    if action is None:
        assert trajectory.turns[0].observation


def test_an_answer_that_is_too_long_to_be_read_is_corrected():
    async def answer_endlessly(conversation) -> str:
        return "Action:\n" + "x" * LONGEST_ANSWER

    (played,) = play([Task("counting", 2)], answer_endlessly)
    assert {turn.action for turn in played.turns} == {None}
    assert "Your answer is too long: only 1,000,000 characters can be read." in played.turns[0].observation


def test_256_sessions_play_at_once():
    together = trio.Event()
    waiting = 0

    async def wait_for_all(conversation) -> str:
        nonlocal waiting
        waiting += 1
        if waiting == 256:
            together.set()
        await together.wait()
        return "Action:\nup"

    trajectories = play([Task("counting", 1)], wait_for_all, samples=256, sessions=256)
    assert len(trajectories) == 256
    assert all(trajectory.success for trajectory in trajectories)
    assert Counting.open_worlds == 0


def test_no_more_sessions_than_asked_for_even_if_nobody_takes_the_trajectories():
    pool = EnvPool(sessions=4)

    async def main():
        async with pool.run([Task("counting", 1)] * 50, answer_up) as trajectories:
            await anext(trajectories)
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().live == 4
            assert Counting.open_worlds <= 4
            assert sum(pool.statistics().finished.values()) <= 1 + 4
            assert len([trajectory async for trajectory in trajectories]) == 49

    trio.run(main)
    assert pool.statistics().live == 0


def test_leaving_early_cancels_the_rest_and_closes_every_session():
    async def main():
        async with EnvPool(sessions=8).run([Task("counting", 3)] * 100, answer_up) as trajectories:
            async for _ in trajectories:
                break

    trio.run(main)
    assert Counting.open_worlds == 0


def test_a_stopped_pool_streams_what_it_had_as_cancelled():
    pool, calls = EnvPool(sessions=3), []

    async def third_stops_the_pool(conversation) -> str:
        calls.append(1)
        if len(calls) == 3:
            pool.stop()
        await trio.sleep_forever()
        raise AssertionError

    async def main():
        async with pool.run([Task("counting", 1)] * 9, third_stops_the_pool) as trajectories:
            return [trajectory async for trajectory in trajectories]

    cancelled = trio.run(main)
    assert [(t.stop, t.score, t.error) for t in cancelled] == [(StopReason.CANCELLED, None, None)] * 3


def breaking(**methods):
    return type("Breaking", (Counting,), methods)


def raises(self, *args):
    raise KeyError("lost")


def hangs(self, *args):
    threading.Event().wait(60)


FAILURES = {
    "raises-in-make": ({"__init__": raises}, "open: KeyError: 'lost'"),
    "raises-in-reset": ({"reset": raises}, "reset: KeyError: 'lost'"),
    "raises-in-step": ({"step": raises}, "turn 1: KeyError: 'lost'"),
    "no-text": ({"reset": lambda self, index: 5}, "reset: the environment returned int, not a text"),
    "no-step": ({"step": lambda self, action: None}, "turn 1: the environment returned NoneType, not a Step"),
    "nan": ({"step": lambda self, action: Step("", float("nan"), False)}, "turn 1: the environment returned the score"),
    "score-text": ({"step": lambda self, action: Step("", "1", False)}, "turn 1: the environment returned the score"),
    "done-text": ({"step": lambda self, action: Step("", 0.0, "no")}, "turn 1: the environment returned done='no'"),
    "hangs-in-reset": ({"reset": hangs}, "reset: the environment took more than 0.2 s"),
    "hangs-in-step": ({"step": hangs}, "turn 1: the environment took more than 0.2 s"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_an_environment_that_fails_costs_its_own_episode_only(name):
    methods, error = FAILURES[name]
    card(name, breaking(**methods), place="thread" if "hangs" in name else "inline")
    tasks = [Task("counting", 2), Task(name, 1), Task("counting", 3)]
    good, bad, also_good = play(tasks, limits=Limits(step_seconds=0.2))
    assert good.success
    assert also_good.success
    assert (bad.stop, bad.score, bad.success) == (StopReason.ERROR, None, None)
    assert bad.error.startswith(error)
    assert "\n" not in bad.error


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class NoText(Exception):
    def __str__(self):
        return 5


class Words(str):
    """A text that misbehaves."""

    def split(self, *args):
        raise RuntimeError("no words")

    __format__ = __len__ = __iter__ = encode = split


def raising(error):
    def fail(self, *args):
        raise error

    return fail


RAISED = {
    "system-exit": (SystemExit(7), "SystemExit: 7"),
    "base-exception": (BaseException("boom"), "BaseException: boom"),
    "generator-exit": (GeneratorExit(), "GeneratorExit"),
    "stop-iteration": (StopIteration("end"), "RuntimeError: coroutine raised StopIteration"),
    "group": (BaseExceptionGroup("all", [SystemExit(3), ValueError("x")]), "SystemExit: 3"),
    "unprintable": (Unprintable(), "Unprintable, whose text cannot be read"),
    "no-text": (NoText(), "NoText, whose text cannot be read"),
    "surrogate": (ValueError("\ud800"), "ValueError: \\ud800"),
    "huge": (ValueError("x" * 10**6), f"ValueError: {'x' * 1000}"),
}  # fmt: skip


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "thread"])
@pytest.mark.parametrize("method", ["__init__", "reset", "step", "close"])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_an_environment_raises_costs_its_own_episode_only(name, method, inline):
    error, told = RAISED[name]
    if name == "stop-iteration":
        told = "StopIteration: end"  # no coroutine comes between
    own = f"raises-{name}-{method.strip('_')}-{inline}"
    card(own, breaking(**{method: raising(error)}), place="inline" if inline else "thread")
    good, bad = play([Task("counting", 2), Task(own, 1)])
    place = {"__init__": "open", "reset": "reset", "step": "turn 1", "close": "close"}[method]
    assert good.success
    assert bad.error[:900] == f"{place}: {told}"[:900]
    assert (bad.stop, bad.score) == ((StopReason.DONE, 1.0) if method == "close" else (StopReason.ERROR, None))


@pytest.mark.parametrize("name", RAISED)
def test_whatever_a_policy_raises_costs_its_own_episode_only(name):
    error, told = RAISED[name]

    async def fails_on_two(conversation) -> str:
        if "to 2." in conversation[0].content:
            raise error
        return await answer_up(conversation)

    good, bad = play([Task("counting", 1), Task("counting", 2)], fails_on_two)
    assert good.success
    assert (bad.stop, bad.error[:900]) == (StopReason.ERROR, f"turn 1: {told}"[:900])


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "thread"])
def test_ctrl_c_in_an_environment_is_still_ctrl_c(inline):
    card(f"interrupts-{inline}", breaking(step=raising(KeyboardInterrupt())), place="inline" if inline else "thread")
    with pytest.raises(KeyboardInterrupt):
        play([Task(f"interrupts-{inline}", 1)])


def test_cancellation_that_nobody_asked_for_is_a_failure():
    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                found.append(cancelled)
                raise

    found: list[BaseException] = []
    trio.run(main)
    card("cancels", breaking(step=raising(found[0])))
    good, bad = play([Task("counting", 2), Task("cancels", 1)])
    assert good.success
    assert bad.error.startswith("turn 1: Cancelled")


SCORES = {
    "huge": (10**400, None), "more-digits-than-are-written": (10**5000, None), "infinite": (float("inf"), None),
    "decimal": (Decimal("0.5"), None), "bool": (True, None), "none": (None, None),
    "fraction": (Fraction(1, 2), 0.5), "integer": (1, 1.0), "float32": (np.float32(0.5), 0.5),
    "int64": (np.int64(1), 1.0), "float64": (np.float64(0.5), 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_a_finite_real_number(name):
    given, expected = SCORES[name]
    card(f"score-{name}", breaking(step=lambda self, action: Step("end", given, True)))
    good, other = play([Task("counting", 2), Task(f"score-{name}", 1)])
    assert good.success
    assert (other.score, type(other.score)) == (expected, type(expected))
    assert (other.error or "").startswith("" if expected else "turn 1: the environment returned the score ")
    assert len(other.error or "") < 200


def test_texts_that_misbehave_become_plain_ones():
    async def answers_words(conversation):
        return Words("Action:\nup")

    card("words", breaking(reset=lambda self, i: Words("Hello."), step=lambda self, a: Step(Words("end"), 1.0, True)))
    (played,) = play([Task("words", 1)], answers_words)
    assert played.success
    texts = (played.observation, played.turns[0].observation, played.turns[0].completion.text)
    assert texts == ("Hello.", "end", "Action:\nup")
    assert {type(text) for text in texts} == {str}


FORKS = """
import os, signal, sys, trio
from envpool import EnvPool, EnvSpec, Step, Task, collect, register, run_sync

where = sys.argv[1]

def fork():
    global forked
    forked += 1
    if forked == 2:
        os.fork()

forked = 0

class World:
    def reset(self, index):
        self.at = 0
        return f"task {index}"
    def step(self, action):
        self.at += 1
        if where in ("inline", "thread"):
            fork()
        return Step(f"at {self.at}", 0.0, self.at == 3)
    def close(self):
        pass

register(EnvSpec(name="forks", version="1", summary="s", instructions="i", brief="b", make=World,
                 tasks=lambda split: range(6), max_turns=9, success_above=0.5,
                 place="thread" if where == "thread" else "inline"))

async def policy(conversation):
    if where == "policy":
        fork()
    await trio.sleep(0.001)
    return "Action:\\ngo"

played = collect(EnvPool(sessions=3), [Task("forks", n) for n in range(6)], policy)
print(os.getpid(), [str(t.stop) for t in played].count("done"), flush=True)
"""


@pytest.mark.parametrize("where", ["inline", "thread", "policy"])
def test_a_process_that_was_forked_does_not_go_on_as_the_pool(where):
    run = subprocess.run([sys.executable, "-c", FORKS, where], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    (line,) = run.stdout.splitlines()  # its end is seen only once no process holds the pipe any more
    assert line.split()[1] == "6"


def test_hung_environments_do_not_use_up_the_threads():
    card("mostly-hangs", breaking(reset=lambda self, index: hangs(self) if index < 9 else "fine"), place="thread")
    tasks = [Task("mostly-hangs", index) for index in range(1, 10)]
    *hung, last = play(tasks, sessions=2, limits=Limits(step_seconds=0.1))
    assert all(trajectory.stop is StopReason.ERROR for trajectory in hung)
    assert last.stop is StopReason.MAX_TURNS


def test_a_session_that_does_not_close_keeps_its_score_and_says_so():
    card("will-not-close", breaking(close=raises))
    (trajectory,) = play([Task("will-not-close", 1)])
    assert (trajectory.stop, trajectory.score) == (StopReason.DONE, 1.0)
    assert trajectory.error == "close: KeyError: 'lost'"


async def policy_raises(conversation):
    raise ValueError("no idea")


async def policy_answers_none(conversation):
    return None


async def policy_hangs(conversation):
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (policy_raises, "turn 1: ValueError: no idea"),
        (policy_answers_none, "act: expected the answer as str, got NoneType"),
        (policy_hangs, "turn 1: the policy took more than 0.1 s"),
    ],
)
def test_a_policy_that_fails_costs_its_own_episode_only(policy, error):
    async def fails_on_two(conversation) -> str:
        return await (policy(conversation) if "to 2." in conversation[0].content else answer_up(conversation))

    tasks = [Task("counting", n) for n in (1, 2, 3)]
    trajectories = play(tasks, fails_on_two, limits=Limits(policy_seconds=0.1))
    assert [trajectory.success for trajectory in trajectories] == [True, None, True]
    assert trajectories[1].error == error


def test_an_actor_that_cannot_be_opened_costs_its_own_episode_only():
    class NoActor:
        name = "none"

        def running(self, load):
            return envpool.ExpertPolicy().running(load)

        @asynccontextmanager
        async def actor(self, episode):
            raise RuntimeError("no room")
            yield

    (trajectory,) = play([Task("counting", 1)], NoActor())
    assert trajectory.error == "actor: RuntimeError: no room"


@asynccontextmanager
async def with_a_nursery():
    async with trio.open_nursery():
        yield


@asynccontextmanager
async def with_a_cleanup_that_fails():
    try:
        yield
    finally:
        raise RuntimeError("cannot clean up")


@asynccontextmanager
async def with_a_nursery_and_a_cleanup_that_fails():
    async def clean_up_badly():
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("cannot clean up")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean_up_badly)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def with_a_task_that_fails():
    async def fail():
        raise RuntimeError("the server is gone")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        yield


@asynccontextmanager
async def with_a_limit_of_its_own():
    with trio.move_on_after(0):
        yield


@asynccontextmanager
async def with_deaf_ears():
    try:
        yield
    except Exception:
        return


class Inside:
    """Plays with `answer`, each actor inside a context."""

    name = "inside"

    def __init__(self, around, answer=answer_up):
        self.around, self.answer = around, answer

    def running(self, load):
        return nullcontext()

    @asynccontextmanager
    async def actor(self, episode):
        async with self.around(), envpool.policy.FunctionPolicy(self.answer).actor(episode) as actor:
            yield actor


AROUND = [with_a_nursery, with_a_cleanup_that_fails, with_a_nursery_and_a_cleanup_that_fails, with_deaf_ears]


@pytest.mark.parametrize("around", AROUND)
def test_an_environment_that_fails_is_what_failed_whatever_the_actor_makes_of_it(around):
    name = f"fails-{around.__name__.replace('_', '-')}"
    card(name, breaking(step=raises))
    failed, _ = play([Task(name, 1), Task("counting", 2)], Inside(around))
    assert (failed.stop, failed.score, failed.error) == (StopReason.ERROR, None, "turn 1: KeyError: 'lost'")
    assert Counting.open_worlds == 0


@pytest.mark.parametrize(
    ("around", "error"),
    [
        (with_a_nursery, None),
        (with_a_cleanup_that_fails, "actor: RuntimeError: cannot clean up"),
        (with_a_task_that_fails, "actor: RuntimeError: the server is gone"),
        (with_a_limit_of_its_own, "actor: the policy broke the episode off"),
    ],
)
def test_what_goes_wrong_in_an_actor_beside_its_answers_costs_its_own_episode_only(around, error):
    async def patient(conversation) -> str:
        await trio.lowlevel.checkpoint()
        return await answer_up(conversation)

    (trajectory,) = play([Task("counting", 2)], Inside(around, patient))
    assert trajectory.error == error
    assert trajectory.success == (None if error else True)


def test_a_failure_of_the_policy_in_an_actor_with_a_nursery_is_told_as_it_was():
    (trajectory,) = play([Task("counting", 1)], Inside(with_a_nursery, policy_raises))
    assert trajectory.error == "turn 1: ValueError: no idea"


@pytest.mark.parametrize("around", [with_a_nursery, with_a_nursery_and_a_cleanup_that_fails])
def test_a_time_limit_passes_through_what_an_actor_puts_around_it(around):
    async def main():
        pool = EnvPool(limits=Limits(episode_seconds=100))
        async with pool.run([Task("counting", 1)], Inside(around, policy_hangs)) as trajectories:
            return [trajectory async for trajectory in trajectories]

    (trajectory,) = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (trajectory.stop, trajectory.error) == (StopReason.TIMEOUT, "took more than 100 s")


@pytest.mark.parametrize("around", [with_a_nursery, with_a_nursery_and_a_cleanup_that_fails])
def test_ctrl_c_passes_through_what_an_actor_puts_around_it(around):
    async def interrupted(conversation) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play([Task("counting", 1)], Inside(around, interrupted))
    assert Counting.open_worlds == 0


def test_a_bug_of_the_pool_is_not_recorded_as_a_failure_of_the_policy(monkeypatch):
    def broken(*args):
        raise AssertionError("a bug")

    monkeypatch.setattr("envpool.episode._checked", broken)
    with pytest.raises(AssertionError, match="a bug"):
        play([Task("counting", 1)], Inside(with_a_nursery))


def test_an_episode_has_a_time_limit():
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def slow(conversation) -> str:
        await trio.sleep(40)
        return "Action:\nup"

    async def main():
        async with EnvPool(limits=Limits(episode_seconds=100)).run([Task("counting", 9)], slow) as trajectories:
            return [trajectory async for trajectory in trajectories]

    (trajectory,) = trio.run(main, clock=clock)
    assert (trajectory.stop, trajectory.score, len(trajectory.turns)) == (StopReason.TIMEOUT, None, 2)
    assert trajectory.error == "took more than 100 s"


def test_a_policy_without_room_ends_the_episode_with_the_score_so_far():
    async def full(conversation) -> str:
        if len(conversation) > 3:
            raise envpool.ContextFull
        return "Action:\nup"

    (trajectory,) = play([Task("counting", 5)], full)
    assert (trajectory.stop, trajectory.score, len(trajectory.turns)) == (StopReason.CONTEXT_FULL, 0.0, 2)


def test_experts_play_every_environment_that_has_one():
    (expert,) = play([Task("counting", 2)], envpool.ExpertPolicy())
    assert expert.success
    assert expert.turns[0].completion.text == "Thought:\nAt 0 of 2.\n\nAction:\nup"


def test_an_environment_without_expert_says_so():
    card("expertless", expert=None)
    (trajectory,) = play([Task("expertless", 2)], envpool.ExpertPolicy())
    assert trajectory.error == "actor: EnvPoolError: expertless has no expert"


def test_an_unknown_environment_is_the_callers_mistake():
    with pytest.raises(envpool.UnknownEnvironment, match="did you mean 'counting'"):
        play([Task("countin", 1)])


def test_ctrl_c_is_still_ctrl_c():
    async def interrupted(conversation) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play([Task("counting", 1)], interrupted)
    assert Counting.open_worlds == 0


def test_run_sync_raises_the_one_error_itself():
    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(policy_raises, ())

    with pytest.raises(ValueError, match="no idea"):
        run_sync(main)


def test_token_ids_and_logprobs_are_carried_as_they_are():
    class Tokens:
        name = "tokens"

        def running(self, load):
            return envpool.ExpertPolicy().running(load)

        @asynccontextmanager
        async def actor(self, episode):
            yield self

        async def act(self, observation):
            return Completion("Action:\nup", (4, 2), (-0.5, -0.25))

    (trajectory,) = play([Task("counting", 1)], Tokens())
    assert trajectory.turns[0].completion == Completion("Action:\nup", (4, 2), (-0.5, -0.25))


def test_live_counts_a_worker_from_its_first_job_to_its_last():
    seen = []

    class Watching(envpool.ExpertPolicy):
        def running(self, load):
            self.load = load
            return super().running(load)

        @asynccontextmanager
        async def actor(self, episode):
            seen.append(self.load.live)
            async with super().actor(episode) as actor:
                yield actor

    play([Task("counting", 1)], Watching(), samples=7, sessions=3)
    assert seen[:3] == [3, 3, 3]
    assert len(seen) == 7


def test_the_garbage_collector_is_left_as_it_was():
    before, during = gc.get_threshold(), []

    async def look(conversation) -> str:
        during.append(gc.get_threshold())
        return "Action:\nup"

    async def two_pools_one_in_the_other():
        async with EnvPool(sessions=100).run([Task("counting", 1)], look) as outer:
            async with EnvPool(sessions=200).run([Task("counting", 1)], look) as inner:
                assert len([t async for t in inner]) == 1
            assert gc.get_threshold() == (5000, *before[1:])
            assert len([t async for t in outer]) == 1

    trio.run(two_pools_one_in_the_other)
    assert (10_000, *before[1:]) in during
    assert gc.get_threshold() == before


def test_a_pool_needs_a_session():
    with pytest.raises(envpool.EnvPoolError, match="at least one session"):
        EnvPool(sessions=0)
