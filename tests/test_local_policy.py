"""A model in this process as a policy, in the real pool and by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trio
import trio.testing
from transformers import PreTrainedModel

from agentgym.data.codec import Codec
from agentgym.errors import ModelError
from agentgym.generation import LocalPolicy, Request, Sampling
from agentgym.models import build_tiny, load_model, load_tokenizer
from agentgym.settings import GenerationSettings, TinySettings
from envpool import EnvPool, EnvSpec, Episode, Step, StopReason, Task, Trajectory, collect, register, run_sync
from envpool.errors import ContextFull
from envpool.formats import REACT, Parsed
from envpool.places.local import LocalTransport
from envpool.session import Session

MAX_TOKENS = 12
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "to", "its", "den")


class Echo:
    """A world that answers with some words that depend on the task, the turn and the action."""

    def reset(self, index: int) -> str:
        self._index, self._turn = index, 0
        return self._words("")

    def step(self, action: str) -> Step:
        self._turn += 1
        return Step(self._words(action), 1.0, done=self._turn >= 2 + self._index % 3)

    def available_actions(self) -> Sequence[str]:
        return ["wait"]

    def close(self) -> None:
        pass

    def _words(self, action: str) -> str:
        rng = random.Random(f"{self._index} {self._turn} {action}")
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))


ECHO = register(
    EnvSpec(
        name="echo_for_local_policy",
        version="1",
        summary="Echo.",
        instructions="Say something.",
        brief="Say.",
        make=Echo,
        tasks=lambda split: range(1000),
        max_turns=4,
        success_above=0.5,
        place="inline",
    )
)


class Raw:
    """The beginning of an answer is the action, so that one that was cut is carried out too."""

    name = "raw"
    instructions = ""

    def render(self, thought: str, action: str) -> str:
        return action

    def parse(self, text: str) -> Parsed:
        return Parsed("", text[:6])


class Dawdling(LocalTransport):
    """Lets other tasks run for a while, another one in every run, before an environment answers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)

    async def open(self, spec: EnvSpec) -> Any:
        session: Any = await super().open(spec)
        step = session.step

        async def slow_step(action: str) -> Step:
            for _ in range(self._rng.randrange(30)):
                await trio.lowlevel.checkpoint()
            answer: Step = await step(action)
            return answer

        session.step = slow_step
        return session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    settings = TinySettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, vocabulary=320)
    build_tiny(settings, [" ".join(WORDS), "Say something."] * 4, context=512, seed=0, folder=folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    model = load_model(str(folder))
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if parameter.ndim > 1 else 1.0)
    return model


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return Codec(load_tokenizer(str(folder)))


@pytest.fixture
def make_policy(model: PreTrainedModel, codec: Codec) -> Callable[..., LocalPolicy]:
    def make(*, context: int = 512, seed: int = 0, temperature: float = 1.0, **settings: Any) -> LocalPolicy:
        return LocalPolicy(
            model,
            codec,
            settings=GenerationSettings(**{"max_tokens": MAX_TOKENS, **settings}),
            sampling=Sampling(temperature=temperature),
            seed=seed,
            context=context,
            name="tiny",
        )

    return make


MakePolicy = Callable[..., LocalPolicy]


def play(policy: LocalPolicy, count: int = 12, sessions: int = 12, samples: int = 1, run: int = 0) -> list[Trajectory]:
    pool = EnvPool(sessions=sessions, format=Raw(), transport=Dawdling(run))
    return collect(pool, [Task(ECHO.name, i) for i in range(count)], policy, samples=samples)


def sampled(trajectories: Sequence[Trajectory]) -> list[list[tuple[int, ...] | None]]:
    return [[turn.completion.token_ids for turn in trajectory.turns] for trajectory in trajectories]


def logprobs(trajectories: Sequence[Trajectory]) -> list[list[tuple[float, ...] | None]]:
    return [[turn.completion.logprobs for turn in trajectory.turns] for trajectory in trajectories]


def test_64_sessions_are_played_to_their_end_and_what_was_sampled_is_what_is_trained_on(
    make_policy: MakePolicy, model: PreTrainedModel, codec: Codec
) -> None:
    trajectories = play(make_policy(), count=80, sessions=64)
    assert all(t.stop is StopReason.DONE and len(t.turns) == 2 + t.task.index % 3 for t in trajectories)
    for trajectory in trajectories[::16]:
        sequence = codec.encode(trajectory)
        with torch.inference_mode():
            logits_TV = model(torch.tensor([sequence.ids])).logits[0, :-1, : codec.vocabulary]
        log_probs_TV = logits_TV.log_softmax(-1)
        expected = [
            log_probs_TV[i - 1, token].item()
            for i, (token, ours) in enumerate(zip(sequence.ids, sequence.mask, strict=True))
            if ours
        ]
        assert [x for turn in logprobs([trajectory])[0] for x in turn or ()] == pytest.approx(expected, abs=1e-5)
        for turn in trajectory.turns:
            assert turn.completion.text == codec.decode(turn.completion.token_ids or ())


def test_lockstep_gives_the_same_floats_in_every_run(make_policy: MakePolicy) -> None:
    runs = [play(make_policy(), count=30, samples=2, run=run) for run in range(3)]
    assert logprobs(runs[0]) == logprobs(runs[1]) == logprobs(runs[2])
    assert sampled(runs[0]) == sampled(runs[1]) == sampled(runs[2])


def test_lockstep_with_more_sessions_than_fit_in_a_batch_gives_the_same_floats_in_every_run(
    make_policy: MakePolicy,
) -> None:
    runs = [play(make_policy(batch=5), count=30, run=run) for run in range(2)]
    assert logprobs(runs[0]) == logprobs(runs[1])
    assert sampled(runs[0]) == sampled(play(make_policy(), count=30))


def test_lockstep_or_not_gives_the_same_samples(make_policy: MakePolicy) -> None:
    expected = sampled(play(make_policy(), count=30))
    assert sampled(play(make_policy(lockstep=False), count=30)) == expected
    assert sampled(play(make_policy(lockstep=False, batch=3), count=30, sessions=7)) == expected


def test_seed_and_sample_change_what_is_sampled_and_greedy_ignores_them(make_policy: MakePolicy) -> None:
    first = play(make_policy(), count=4, samples=2)
    assert sampled(first[::2]) != sampled(first[1::2])
    assert sampled(first) != sampled(play(make_policy(seed=1), count=4, samples=2))
    greedy = play(make_policy(temperature=0), count=4, samples=2)
    assert sampled(greedy[::2]) == sampled(greedy[1::2])


def test_an_episode_without_room_for_another_answer_ends_as_context_full(make_policy: MakePolicy) -> None:
    trajectories = play(make_policy(context=60, max_tokens=20))
    assert {t.stop for t in trajectories} >= {StopReason.CONTEXT_FULL}
    assert all(t.score is not None for t in trajectories)


def test_an_error_of_the_engine_ends_the_run_and_the_policy_can_run_again(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy()
    expected = sampled(play(policy))
    calls = iter(range(100))
    advance = policy.engine.advance

    def fail(steps: int) -> list[Request]:
        if next(calls) == 3:
            raise ZeroDivisionError("the engine broke")
        return advance(steps)

    with monkeypatch.context() as patch:
        patch.setattr(policy.engine, "advance", fail)
        with pytest.raises(ZeroDivisionError, match="the engine broke"):
            play(policy)
    assert not policy.engine.busy
    assert sampled(play(policy)) == expected


def test_a_run_that_is_stopped_ends_and_leaves_the_engine_empty(make_policy: MakePolicy) -> None:
    policy = make_policy(lockstep=False)
    pool = EnvPool(sessions=8, format=Raw())

    async def main() -> list[Trajectory]:
        found = []
        tasks = (Task(ECHO.name, i) for i in range(1000))
        async with pool.run(tasks, policy) as trajectories:
            async for trajectory in trajectories:
                found.append(trajectory)
                if len(found) == 3:
                    pool.stop()
        return found

    found = trio.run(main)
    assert {t.stop for t in found} == {StopReason.DONE, StopReason.CANCELLED}
    assert not policy.engine.busy


class FakeLoad:
    """A number of live episodes that the test sets."""

    def __init__(self, live: int) -> None:
        self.live = live
        self._changed = trio.Event()

    async def wait_change(self) -> None:
        await self._changed.wait()

    def set(self, live: int) -> None:
        self.live = live
        self._changed.set()
        self._changed = trio.Event()


class Nowhere:
    """A session that nobody looks at."""

    environment = None


def episode(index: int) -> Episode:
    session: Any = Nowhere()
    typed: Session = session
    return Episode(Task(ECHO.name, index), 0, ECHO, REACT, typed)


@contextmanager
def watching(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collects how many questions are handed to the engine at a time."""
    sizes: list[int] = []
    submit = policy.engine.submit

    def watched(requests: Iterator[Request]) -> None:
        taken = list(requests)
        if taken:
            sizes.append(len(taken))
        submit(taken)

    with monkeypatch.context() as patch:
        patch.setattr(policy.engine, "submit", watched)
        yield sizes


async def act_once(policy: LocalPolicy, index: int, answered: list[int] | None = None) -> None:
    async with policy.actor(episode(index)) as actor:
        await actor.act("a fox")
        if answered is not None:
            answered.append(index)


def test_lockstep_waits_for_all_live_episodes_and_goes_on_when_one_leaves(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, load, answered = make_policy(), FakeLoad(4), list[int]()

    async def main() -> None:
        async with policy.running(load), trio.open_nursery() as nursery:
            for index in range(3):
                nursery.start_soon(act_once, policy, index, answered)
            await trio.testing.wait_all_tasks_blocked()
            assert (sizes, answered) == ([], [])
            load.set(3)

    with watching(policy, monkeypatch) as sizes:
        trio.run(main)
    assert sizes == [3]
    assert sorted(answered) == [0, 1, 2]


def test_without_lockstep_nobody_waits_for_the_others(make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(lockstep=False)

    async def main() -> None:
        async with policy.running(FakeLoad(4)):
            await act_once(policy, 0)

    with watching(policy, monkeypatch) as sizes:
        trio.run(main)
    assert sizes == [1]


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_cancelled_actor_frees_its_slot_and_the_others_get_their_answers(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch, lockstep: bool
) -> None:
    policy, load = make_policy(lockstep=lockstep, max_tokens=200), FakeLoad(3)
    monkeypatch.setattr(policy.engine, "_stop_ids", frozenset())  # answers are long: there is time to cancel
    answered: list[int] = []
    in_batch: list[int] = []

    async def main() -> None:
        begun = trio.Event()
        advance, token = policy.engine.advance, trio.lowlevel.current_trio_token()

        def watched(steps: int) -> list[Request]:
            in_batch.append(len(policy.engine._active) + len(policy.engine._pending))
            trio.from_thread.run_sync(begun.set, trio_token=token)
            return advance(steps)

        monkeypatch.setattr(policy.engine, "advance", watched)
        async with policy.running(load), trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await act_once(policy, 0, answered)

            nursery.start_soon(cancelled)
            nursery.start_soon(act_once, policy, 1, answered)
            nursery.start_soon(act_once, policy, 2, answered)
            await begun.wait()
            scope.cancel()

    trio.run(main)
    assert sorted(answered) == [1, 2]
    assert in_batch[0] == 3 or not lockstep
    assert in_batch[-1] == 2 or not lockstep


def test_an_actor_whose_answer_was_cancelled_can_go_on(make_policy: MakePolicy) -> None:
    policy = make_policy(lockstep=True)

    async def main() -> None:
        load = FakeLoad(2)
        async with policy.running(load), policy.actor(episode(0)) as actor:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(actor.act, "a fox")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            load.set(1)
            completion = await actor.act("a dog")
            assert completion.token_ids

    trio.run(main)


def test_misuse_is_an_error_at_once(make_policy: MakePolicy) -> None:
    policy = make_policy()

    async def outside() -> None:
        async with policy.actor(episode(0)):
            pass

    async def twice() -> None:
        async with policy.running(FakeLoad(1)), policy.running(FakeLoad(1)):
            pass

    with pytest.raises(RuntimeError, match="actors live inside"):
        trio.run(outside)
    with pytest.raises(RuntimeError, match="one pool at a time"):
        run_sync(twice)


@pytest.mark.parametrize(
    ("setting", "device", "graphs"),
    [(None, "cpu", False), (None, "cuda:1", True), (False, "cuda:1", False), (True, "cpu", True)],
)
def test_steps_are_recorded_on_gpus_unless_the_settings_say_otherwise(
    setting: bool | None, device: str, graphs: bool, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    monkeypatch.setattr("agentgym.generation.local.Engine", lambda model, **options: made.append(options["graphs"]))
    settings, somewhere = GenerationSettings(graphs=setting), SimpleNamespace(device=torch.device(device))
    model: Any = somewhere
    LocalPolicy(model, codec, settings=settings, sampling=Sampling(), seed=0, context=900, name="tiny")
    assert made == [graphs]


def test_a_full_context_is_told_to_the_pool(make_policy: MakePolicy) -> None:
    policy = make_policy(context=20)

    async def main() -> None:
        async with policy.running(FakeLoad(1)), policy.actor(episode(0)) as actor:
            with pytest.raises(ContextFull, match="do not fit in a context of 20"):
                await actor.act("a fox " * 10)

    trio.run(main)


def test_an_answer_longer_than_the_context_is_refused_in_one_line(make_policy: MakePolicy) -> None:
    with pytest.raises(ModelError, match=r"lower generation\.max_tokens or raise model\.context"):
        make_policy(context=MAX_TOKENS)
