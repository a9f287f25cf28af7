"""Models behind servers, in the real pool against a real server on a loopback port."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import torch
import trio
import yaml
from fake_openai import GARBAGE, JUNK, MODEL, Drop, FakeOpenAI, Half, Hang, error, in_a_thread, says
from hypothesis import given
from hypothesis import strategies as st

from agentgym import modelserver
from agentgym.cli import main
from agentgym.data import store
from agentgym.data.codec import Codec
from agentgym.data.messages import THOUGHTS
from agentgym.errors import ModelError, RecipeError
from agentgym.generation import RemotePolicy, Sampling
from agentgym.generation.messages import spoken, thoughts
from agentgym.generation.remote import request_seed
from agentgym.models import build_tiny, load_tokenizer
from agentgym.modelserver.answers import Reader
from agentgym.modelserver.server import DOWN
from agentgym.preflight import check_fit, check_play
from agentgym.recipe import load_recipe, same_run
from agentgym.settings import EndpointSettings, GenerationSettings, TinySettings
from envpool import (
    EnvPool,
    EnvSpec,
    Limits,
    Message,
    Split,
    Step,
    StopReason,
    Task,
    Trajectory,
    collect,
    get_spec,
    register,
)
from envpool.errors import MalformedAction
from envpool.formats import Parsed, format_for
from envpool.places.endpoint import Answer
from envpool.policy import Episode
from envpool.testing.http1 import Response

EXAMPLES = Path(__file__).parents[1] / "examples"
TURNS = 3
KEY = "sk-very-secret"


class Chatter:
    """A world that is over after some turns, whatever is said."""

    def reset(self, index: int) -> str:
        self._index, self._turn = index, 0
        return f"world {index}"

    def step(self, action: str) -> Step:
        self._turn += 1
        return Step(f"turn {self._turn} of world {self._index}", float(self._turn), done=self._turn >= TURNS)

    def available_actions(self) -> Sequence[str]:
        return ["wait"]

    def close(self) -> None:
        pass


CHATTER = register(
    EnvSpec(
        name="chatter_for_remote_policy",
        version="1",
        summary="Chatter.",
        instructions="Say something.",
        brief="Say.",
        make=Chatter,
        tasks=lambda split: range(1000),
        max_turns=5,
        success_above=0.5,
        place="inline",
    )
)


class Raw:
    """The whole answer is the action."""

    name = "raw"
    instructions = ""

    def render(self, thought: str, action: str) -> str:
        return action

    def parse(self, text: str) -> Parsed:
        return Parsed("", text)


def policy_for(fake: FakeOpenAI, *, codec: Codec | None = None, **options: Any) -> RemotePolicy:
    ours = {name: options.pop(name) for name in ("seed", "context", "sampling", "max_tokens") if name in options}
    policy = RemotePolicy(
        EndpointSettings(fake.base, tokens=codec is not None, **options),
        MODEL,
        settings=GenerationSettings(max_tokens=ours.get("max_tokens", 16)),
        sampling=ours.get("sampling", Sampling(temperature=0.7, top_p=0.9)),
        seed=ours.get("seed", 0),
        context=ours.get("context", 4096),
        codec=codec,
    )
    policy.server._backoff = 0.001
    return policy


def play_with(fake: FakeOpenAI, count: int = 1, sessions: int = 8, **options: Any) -> list[Trajectory]:
    return trio.run(_play, fake, lambda: policy_for(fake, **options), count, sessions)


async def _play(fake: FakeOpenAI, make: Callable[[], RemotePolicy], count: int, sessions: int) -> list[Trajectory]:
    found = []
    async with fake:
        tasks = [Task(CHATTER.name, index) for index in range(count)]
        async with EnvPool(sessions=sessions, format=Raw()).run(tasks, make()) as trajectories:
            async for trajectory in trajectories:
                found.append(trajectory)
        await fake.all_left()
    return sorted(found, key=lambda trajectory: trajectory.task)


def test_the_conversation_is_sent_as_messages_with_the_sampling_and_a_seed_of_its_own_per_turn() -> None:
    fake = FakeOpenAI()
    (played,) = play_with(fake)
    assert (played.stop, len(played.turns), played.policy) == (StopReason.DONE, TURNS, MODEL)
    first, second, third = fake.bodies
    assert third["messages"] == [{"role": m.role, "content": m.content} for m in played.messages[:-1]]
    assert second["messages"] == third["messages"][:3]
    assert {key: first[key] for key in first.keys() - {"messages"}} == {
        "model": MODEL,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 16,
        "seed": request_seed(0, played.task.item_id, 0, 0),
    }
    assert len({body["seed"] for body in fake.bodies}) == TURNS
    assert all(turn.completion.token_ids is None for turn in played.turns)


def test_seeds_depend_on_seed_task_sample_and_turn_alone() -> None:
    runs = [FakeOpenAI(), FakeOpenAI(), FakeOpenAI()]
    for fake, seed in zip(runs, (0, 0, 1), strict=True):
        play_with(fake, count=5, seed=seed)
    first, again, other = ({body["seed"] for body in fake.bodies} for fake in runs)
    assert first == again
    assert not first & other
    assert len(first) == 5 * TURNS


def test_256_sessions_of_a_slow_server_all_finish_and_the_limit_holds() -> None:
    fake = FakeOpenAI(seconds=0.005, hold=24)
    played = play_with(fake, count=256, sessions=256, concurrency=24)
    assert [t.stop for t in played] == [StopReason.DONE] * 256
    assert fake.most == 24
    assert fake.opened <= 24  # connections are used again
    assert fake.open == 0
    assert len(fake.bodies) == 256 * TURNS


PASSING: dict[str, list[Any]] = {
    "500": [error(500, "out of luck")],
    "502 without JSON": [Response(502, b"<html>Bad Gateway</html>")],
    "408 and 409": [error(408, "slow"), error(409, "conflict")],
    "529": [error(529, "overloaded")],
    "a dropped connection": [Drop, Drop],
    "half an answer": [Half],
    "garbage": [GARBAGE, JUNK],
    "no choices": [Response.of({"choices": []})],
    "an error under 200": [Response.of({"error": {"message": "behind me", "code": 502}})],
    "an answer given up": [Response.of({"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]})],
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_asked_again(fault: str) -> None:
    fake = FakeOpenAI()
    fake.script.extend(PASSING[fault])
    policies: list[RemotePolicy] = []

    def make() -> RemotePolicy:
        policies.append(policy_for(fake))
        return policies[0]

    (played,) = trio.run(_play, fake, make, 1, 1)
    assert played.stop is StopReason.DONE
    assert len(fake.bodies) == TURNS + len(PASSING[fault])
    assert policies[0].usage.retries == len(PASSING[fault])
    assert policies[0].usage.requests == TURNS


def test_a_server_that_hangs_is_given_up_on_time_and_asked_again() -> None:
    fake = FakeOpenAI()
    fake.script.append(Hang)
    (played,) = play_with(fake, seconds=0.1)
    assert played.stop is StopReason.DONE


def test_a_server_that_only_fails_costs_the_episode_and_not_the_run() -> None:
    fake = FakeOpenAI(seconds=0.005)
    fake.script.extend([error(500, "out of luck")] * 4)
    played = play_with(fake, count=3, sessions=1, retries=3)
    assert [t.stop for t in played] == [StopReason.ERROR, StopReason.DONE, StopReason.DONE]
    assert played[0].score is None
    assert played[0].error is not None
    assert played[0].error.endswith("answered 500: out of luck")


async def drop(request: Any) -> Any:
    return Drop


async def hang(request: Any) -> Any:
    return Hang


async def fall_over(request: Any) -> Any:
    return error(500, "out of luck")


async def forbid(request: Any) -> Any:
    return error(403, "not for you any more")


@pytest.mark.parametrize(
    ("respond", "cause"),
    [
        (drop, "127.0.0.1"),
        (hang, "did not answer before pool.policy_seconds was over"),
        (fall_over, "answered 500: out of luck"),
        (forbid, "answered 403: not for you any more"),
    ],
)
def test_a_server_that_goes_down_ends_the_run_and_what_was_finished_is_kept(respond: Any, cause: str) -> None:
    fake, sound = FakeOpenAI(), FakeOpenAI._respond
    found: list[Trajectory] = []

    async def until_it_goes_down(request: Any) -> Any:
        finished = sum(t.stop is StopReason.DONE for t in found)
        return await (sound(fake, request) if finished < 2 else respond(request))

    fake._respond = until_it_goes_down

    async def main() -> None:
        limits = Limits(policy_seconds=0.05 if respond is hang else 60)
        pool = EnvPool(sessions=8, format=Raw(), limits=limits)
        async with fake:
            tasks = [Task(CHATTER.name, index) for index in range(1000)]
            async with pool.run(tasks, policy_for(fake, retries=0)) as trajectories:
                async for trajectory in trajectories:
                    found.append(trajectory)

    with pytest.raises(ModelError) as caught:
        trio.run(main)
    line = str(caught.value)
    assert cause in line
    assert "no answer to 30 requests in a row: see to the server, then run the same command again" in line
    assert "\n" not in line
    assert sum(t.stop is StopReason.DONE for t in found) >= 2
    assert len(found) < 60


def test_one_answer_in_between_shows_that_a_server_is_there() -> None:
    fake = FakeOpenAI()
    for _ in range(3):
        fake.script.extend([error(500, "out of luck")] * (DOWN - 1))
        fake.script.append(Response.of({"choices": [{"message": {"content": "here"}, "finish_reason": "stop"}]}))
    played = play_with(fake, count=120, sessions=1, retries=0)
    assert sum(t.stop is StopReason.ERROR for t in played) == 3 * (DOWN - 1)


def test_a_server_that_went_down_is_asked_no_more_in_this_run_and_again_in_the_next() -> None:
    fake, body = FakeOpenAI(), {"messages": [{"role": "user", "content": "hello"}]}
    fake.script.extend([error(500, "out of luck")] * DOWN)

    async def main() -> None:
        async with fake:
            server = modelserver.ModelServer(EndpointSettings(fake.base, retries=0), MODEL, backoff=0.001)
            async with server.connected():
                for _ in range(DOWN):
                    with pytest.raises(modelserver.ModelUnreachable, match="out of luck"):
                        await server.ask("/chat/completions", body)
                with pytest.raises(ModelError, match="out of luck"):
                    await server.ask("/chat/completions", body)
            assert len(fake.bodies) == DOWN
            async with server.connected():
                await server.ask("/chat/completions", body)

    trio.run(main)
    assert len(fake.bodies) == DOWN + 1


def test_a_busy_server_is_left_alone_by_all_for_as_long_as_it_asks() -> None:
    async def run(fake: FakeOpenAI) -> list[float]:
        times = []
        async with fake:
            server = modelserver.ModelServer(EndpointSettings(fake.base, retries=0), MODEL, backoff=0.001)
            async with server.connected():
                with pytest.raises(modelserver.ModelUnreachable, match="slow down"):
                    await server.ask("/chat/completions", {"messages": []})
                times.append(trio.current_time())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.ask, "/chat/completions", {"messages": []})
                    nursery.start_soon(server.ask, "/chat/completions", {"messages": []})
                times.append(trio.current_time())
        return times

    fake = FakeOpenAI()
    fake.script.append(error(429, "slow down", [(b"retry-after", b"0.3")], code="rate_limit_exceeded"))
    told, answered = trio.run(run, fake)
    assert answered - told > 0.29
    assert len(fake.bodies) == 3


@pytest.mark.parametrize(
    ("header", "expected"),
    [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", 0), ("nan", 0), ("inf", 0), (None, 0), ("", 0)],
)
def test_retry_after_is_read(header: str | None, expected: float) -> None:
    with pytest.raises(modelserver.answers.Again) as caught:
        Reader("here", EndpointSettings("here")).read(Answer(429, b"", header))
    assert caught.value.pause == expected


def test_retry_after_may_be_a_date() -> None:
    import time

    with pytest.raises(modelserver.answers.Again) as caught:
        Reader("here", EndpointSettings("here")).read(Answer(503, b"", formatdate(time.time() + 60, usegmt=True)))
    assert 55 < caught.value.pause <= 60


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for() -> None:
    fake = FakeOpenAI()
    fake.script.append(error(429, "daily limit", [(b"retry-after", b"3600")]))
    (played,) = play_with(fake)
    assert played.stop is StopReason.ERROR
    assert "daily limit (it asks to wait 3,600 s)" in str(played.error)


TOO_LONG = [
    error(
        400,
        "This model's maximum context length is 4096 tokens. However, you requested 4118 tokens (3118 in the messages, "
        "1000 in the completion). Please reduce the length of the messages or completion.",
        code="context_length_exceeded",
    ),
    error(400, "Input tokens exceed the configured limit of 272000 tokens.", code="context_length_exceeded"),
    Response.of(
        {
            "object": "error",
            "message": "This model's maximum context length is 128000 tokens. However, you requested 65535 output "
            "tokens and your prompt contains at least 62466 input tokens, for a total of at least 128001 tokens.",
            "type": "BadRequestError",
            "code": 400,
        },
        400,
    ),
    error(400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096.", code=400),
    error(400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    error(400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
    error(400, "the request exceeds the available context size, try increasing it", code=400),
    error(413, "prompt is too long: 210000 tokens > 200000 maximum"),
    error(400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
]


@pytest.mark.parametrize("said", TOO_LONG, ids=range(len(TOO_LONG)))
def test_a_conversation_that_is_too_long_for_the_server_ends_the_episode_with_its_score(said: Any) -> None:
    fake = FakeOpenAI()
    respond = fake._answer

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if len(body["messages"]) > 1:
            fake.script.append(said)
        return respond(route, body)

    fake._answer = answer
    fake.script.clear()
    (played,) = play_with(fake)
    assert (played.stop, len(played.turns)) == (StopReason.CONTEXT_FULL, 2)
    assert played.score == 2.0


def test_the_context_of_the_recipe_holds_as_far_as_the_server_counts() -> None:
    fake = FakeOpenAI(says("go", usage={"prompt_tokens": 40, "completion_tokens": 5}))
    (played,) = play_with(fake, context=60)
    assert (played.stop, len(played.turns)) == (StopReason.CONTEXT_FULL, 1)
    thinking = FakeOpenAI(
        says("go", message={"reasoning": "hm" * 99}, usage={"prompt_tokens": 40, "completion_tokens": 500})
    )
    (played,) = play_with(thinking, context=60)
    assert played.stop is StopReason.DONE


def test_a_request_that_is_refused_costs_one_episode_once_others_were_answered() -> None:
    fake = FakeOpenAI()
    respond = fake._answer

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if fake.requests["/v1/chat/completions"] == 2:
            fake.script.append(error(400, "I find this improper", code="content_policy"))
        return respond(route, body)

    fake._answer = answer
    played = play_with(fake, count=2, sessions=1)
    assert [t.stop for t in played] == [StopReason.ERROR, StopReason.DONE]
    assert "answered 400: I find this improper" in str(played[0].error)


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"key": KEY}, {}, "name the environment variable that holds the key in model.endpoint.key"),
    ({"key": "another"}, {"key": "REMOTE_KEY"}, "the environment variable REMOTE_KEY holds no key that it takes"),
    ({}, {"model": "fake/modle"}, "it has fake/model, and no 'fake/modle'; did you mean 'fake/model'?"),
    ({"models": None}, {"model": "x"}, "is model.endpoint.url right? it mostly ends in /v1"),
]


@pytest.mark.parametrize(("server", "settings", "cure"), MISTAKES)
def test_a_mistake_in_the_settings_ends_the_whole_run_in_one_line(
    server: dict[str, Any], settings: dict[str, Any], cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTE_KEY", KEY)
    fake = FakeOpenAI(**server)
    with pytest.raises(ModelError) as caught:
        play_with(fake, count=20, **settings)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(fake.bodies) <= 8  # one for each session at most


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "has no credit left"),
        (error(402, "Insufficient Balance"), "has no credit left"),
        (error(400, "Unsupported parameter: 'max_tokens'", code="unsupported_parameter"), "model.endpoint.options"),
        (error(400, "no such model", code="model_not_found"), "choose another model"),
        (Response(307, b""), "the address that it points to"),
        (error(403, "not in your country"), "model.endpoint.key"),
        (error(400, "API key not valid. Please pass a valid API key."), "model.endpoint.key"),
        (error(422, "Authentication failed"), "model.endpoint.key"),
        (error(400, "The model 'x' does not exist"), "choose another model"),
        (error(422, "Unknown model: x"), "choose another model"),
        (error(400, "gpt-x is not a valid model ID"), "choose another model"),
        (error(400, "this model does not support temperature"), "model.endpoint.options"),
    ],
)
def test_what_no_request_will_get_past_ends_the_run(said: Any, cure: str) -> None:
    fake = FakeOpenAI()
    fake.script.extend([said] * 3)
    with pytest.raises(ModelError, match=cure.replace(".", r"\.")):
        play_with(fake, count=3)


def test_the_key_is_sent_and_nothing_that_is_written_down_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_KEY", KEY)
    fake = FakeOpenAI(key=KEY)
    fake.script.extend([error(500, f"your key {KEY} made me stumble")] * 2)
    played = play_with(fake, count=2, sessions=1, key="REMOTE_KEY", retries=1)
    assert [t.stop for t in played] == [StopReason.ERROR, StopReason.DONE]
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in fake.headers)
    assert "your key *** made me stumble" in str(played[0].error)
    assert KEY not in repr(played)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "localhost:8000"}, "url: this is no address"),
    ({"url": "http://user:secret@127.0.0.1/v1"}, "url: this is no address"),
    ({"url": "https://here/v1?api-key=secret"}, "url: leave out what begins with '?'"),
    ({"url": "http://10.0.0.5:8000/v1", "key": "REMOTE_KEY"}, "url: the key would travel in the clear"),
    ({"key": "sk-secret"}, "key: write the name of the environment variable"),
    ({"key": "REMOTE_NOT_SET"}, "key: the environment variable REMOTE_NOT_SET is not set"),
    ({"key": "REMOTE_TWO_LINES"}, "key: the environment variable REMOTE_TWO_LINES holds more than a key"),
    ({"tokens": True, "stop": ["x"]}, "stop: answers in token ids end with"),
    ({"options": {"stream": True}}, "options.stream: this is not for the settings to say"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(
    settings: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTE_KEY", KEY)
    monkeypatch.setenv("REMOTE_TWO_LINES", "secret\nsecret")
    with pytest.raises(ModelError) as caught:
        modelserver.ModelServer(EndpointSettings(**{"url": "http://127.0.0.1:1/v1", **settings}), MODEL)
    assert f"model.endpoint.{text}" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.9.9.9/v1", "http://[::1]:1", "https://there/v1"])
def test_a_key_may_go_to_this_machine_and_over_https(url: str) -> None:
    assert not list(modelserver.complaints_about(EndpointSettings(url, key="REMOTE_KEY")))


ODD: list[tuple[dict[str, Any], str]] = [
    ({"content": None}, ""),
    ({"content": ""}, ""),
    ({"content": None, "tool_calls": [{"function": {"name": "go"}}]}, '{"name": "go", "arguments": {}}'),
    ({"content": None, "tool_calls": []}, ""),
    ({"content": None, "tool_calls": None, "function_call": None}, ""),
    ({"content": None, "refusal": "I would rather not."}, "I would rather not."),
    ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "go"}]}, "go"),
    ({"content": "go", "reasoning_content": "I might wait. Action: wait"}, "go"),
    ({"content": "go", "reasoning": "I might wait."}, "go"),
]


@pytest.mark.parametrize(("message", "text"), ODD)
def test_only_what_a_model_says_aloud_is_its_answer(message: dict[str, Any], text: str) -> None:
    fake = FakeOpenAI(says(None, message=message))
    (played,) = play_with(fake)
    assert [turn.completion.text for turn in played.turns] == [text] * TURNS
    assert fake.bodies[-1]["messages"][1] == {"role": "assistant", "content": text}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}}


MOVE = call("move", '{"direction": "up"}')
CALLED: dict[str, tuple[dict[str, Any], str | None]] = {
    "one call": ({"content": None, "tool_calls": [MOVE]}, "move up"),
    "one call with empty text": ({"content": "", "tool_calls": [MOVE]}, "move up"),
    "arguments as an object": ({"content": None, "tool_calls": [call("move", {"direction": "up"})]}, "move up"),
    "a plain action": ({"content": None, "tool_calls": [call("act", '{"action": "move up"}')]}, "move up"),
    "the older form": ({"content": None, "function_call": MOVE["function"]}, "move up"),
    "a part of the content": (
        {"content": [{"type": "tool_use", "name": "move", "input": {"direction": "up"}}]},
        "move up",
    ),
    "text before it": ({"content": "The goal is above.", "tool_calls": [MOVE]}, "move up"),
    "thoughts beside it": ({"content": None, "reasoning_content": "Up?", "tool_calls": [MOVE]}, "move up"),
    "two calls": ({"content": None, "tool_calls": [MOVE, call("move", '{"direction": "left"}')]}, None),
    "two calls, one of them unknown": ({"content": None, "tool_calls": [MOVE, call("fly", "{}")]}, None),
    "an unknown tool": ({"content": None, "tool_calls": [call("fly", "{}")]}, None),
    "arguments that were cut": ({"content": None, "tool_calls": [call("move", '{"direction": "u')]}, None),
    "arguments that are no object": ({"content": None, "tool_calls": [call("move", "[1]")]}, None),
    "no name": ({"content": None, "tool_calls": [{"id": "call_0", "function": {"arguments": "{}"}}]}, None),
    "a call that is text": ({"content": None, "tool_calls": ["move up"]}, None),
}
FORMATS = ("react", "function_calling", "code_as_action")


def playing(format: str) -> Episode:
    spec = get_spec("maze")
    return Episode(Task("maze", 3), 0, spec, format_for(format, spec), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", CALLED)
def test_a_call_of_a_tool_is_read_in_every_format_or_corrected_and_never_lost(case: str, format: str) -> None:
    message, action = CALLED[case]
    episode = playing(format)
    text = spoken(message, episode)
    assert text.strip()
    if action is not None:
        assert episode.format.parse(text).action == action
    else:
        with pytest.raises(MalformedAction):
            episode.format.parse(text)
        for told in message["tool_calls"]:
            name = told["function"].get("name", "") if isinstance(told, dict) else told
            assert name in text or (name == "move" and "up" in text)


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_beside_an_action_is_two_actions_unless_it_is_the_same(format: str) -> None:
    episode = playing(format)
    said = episode.format.render("Left it is.", "move left")
    for other in (MOVE, call("fly", "{}")):
        with pytest.raises(MalformedAction):
            episode.format.parse(spoken({"content": said, "tool_calls": [other]}, episode))
    same = call("move", '{"direction": "left"}')
    assert spoken({"content": said, "tool_calls": [same]}, episode) == said


def test_several_calls_are_corrected_as_several_actions() -> None:
    message = CALLED["two calls"][0]
    for format in FORMATS:
        episode = playing(format)
        with pytest.raises(MalformedAction, match="at a time"):
            episode.format.parse(spoken(message, episode))


def test_text_before_a_call_is_the_thought() -> None:
    message = CALLED["text before it"][0]
    for format in FORMATS:
        episode = playing(format)
        assert episode.format.parse(spoken(message, episode)).thought == "The goal is above."


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["function", "name", "arguments",
            "input", "type", "text", "content", "tool_calls", "tool_use"]), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(FORMATS),
)  # fmt: skip
def test_whatever_a_message_holds_is_read_or_corrected(held: Any, format: str) -> None:
    episode = playing(format)
    for message in ({"content": held}, {"content": None, "tool_calls": held}, {"function_call": held}):
        assert isinstance(thoughts(message), str)
        text = spoken(message, episode)
        assert isinstance(text, str)
        if "tool_calls" in message and isinstance(held, list) and any(held):
            assert text.strip()


def test_thoughts_are_found_under_the_names_that_servers_give_them() -> None:
    for message in (
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        *({key: "hm"} for key in THOUGHTS),
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}, {"type": "reasoning.encrypted", "data": "?"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "x"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"content": [{"type": "reasoning", "text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ):
        assert thoughts({"content": None, **message}) == "hm"


def test_the_next_turn_is_told_what_was_called() -> None:
    fake = FakeOpenAI(says(None, message={"content": None, "tool_calls": [call("wait", "{}")]}))
    play_with(fake)
    assert fake.bodies[1]["messages"][1] == {"role": "assistant", "content": '{"name": "wait", "arguments": {}}'}


def test_an_answer_without_words_is_corrected_and_not_an_error() -> None:
    async def run(fake: FakeOpenAI) -> Trajectory:
        async with fake, EnvPool(sessions=1).run([Task("maze", 0)], policy_for(fake)) as found:
            return await anext(found)

    played = trio.run(run, FakeOpenAI(says(None)))
    assert played.stop is StopReason.MAX_TURNS
    assert all(turn.action is None for turn in played.turns)


@pytest.mark.parametrize("ended", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_length_limit_is_known_by_the_words_of_every_server(ended: str) -> None:
    (played,) = play_with(FakeOpenAI(says("Action:\ngo", finish_reason=ended)))
    assert all(turn.completion.cut for turn in played.turns)
    (whole,) = play_with(FakeOpenAI(says("Action:\ngo", finish_reason="end_turn")))
    assert not any(turn.completion.cut for turn in whole.turns)


def test_what_it_costs_is_counted() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    fake = FakeOpenAI(says("go", finish_reason="length", usage=usage))
    policies: list[RemotePolicy] = []
    trio.run(_play, fake, lambda: policies.append(policy_for(fake)) or policies[0], 2, 2)
    asked = 2 * CHATTER.max_turns  # what was cut is corrected
    expected = modelserver.Usage(
        requests=asked,
        cut=asked,
        prompt_tokens=100 * asked,
        cached_tokens=64 * asked,
        completion_tokens=7 * asked,
    )
    assert policies[0].usage == expected
    assert str(expected).startswith(
        "10 answers, 1,000 prompt tokens (640 of them cached), 70 completion tokens, 10 cut"
    )


def test_a_content_filter_fails_the_episode() -> None:
    fake = FakeOpenAI(says("", finish_reason="content_filter"))
    (played,) = play_with(fake)
    assert (played.stop, played.score) == (StopReason.ERROR, None)
    assert "content filter" in str(played.error)


def test_options_add_fields_and_leave_some_out() -> None:
    fake = FakeOpenAI()
    options = {"max_tokens": None, "max_completion_tokens": 9, "chat_template_kwargs": {"enable_thinking": False}}
    play_with(fake, options=options, stop=["Observation:"], sampling=Sampling(temperature=0.0, top_k=5))
    body = fake.bodies[0]
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["stop"], body["top_k"]) == (9, ["Observation:"], 5)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_token_ids_that_come_with_messages_are_recorded() -> None:
    logprobs = {"content": [{"token": "g", "logprob": -0.5}, {"token": "o", "logprob": -1}]}
    (played,) = play_with(FakeOpenAI(says("go", token_ids=[3, 4], logprobs=logprobs)))
    assert (played.turns[0].completion.token_ids, played.turns[0].completion.logprobs) == ((3, 4), (-0.5, -1.0))
    (played,) = play_with(FakeOpenAI(says("go", token_ids=[3, 4], logprobs={"content": None})))
    assert (played.turns[0].completion.token_ids, played.turns[0].completion.logprobs) == ((3, 4), None)
    (played,) = play_with(FakeOpenAI(says("go", token_ids="34")))
    assert played.turns[0].completion.token_ids is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    settings = TinySettings(hidden=8, layers=1, heads=1, kv_heads=1, intermediate=8, vocabulary=320)
    build_tiny(settings, ["turn of world", "Say something."] * 4, context=4096, seed=0, folder=folder)
    return folder


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return Codec(load_tokenizer(str(folder)))


def writes(codec: Codec, **more: Any) -> Callable[[str, Mapping[str, Any]], dict[str, Any]]:
    """A model that answers each prompt with other tokens, spelt as no tokenizer would spell them."""

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        assert route == "/completions"
        letters = [token for letter in f"go {len(body['prompt'])}" for token in codec._encoder.text(letter)]
        ids = [*letters, codec.stop_id]
        logprobs = {"token_logprobs": [-0.25 * n for n in range(len(ids))], "tokens": ["x"] * len(ids)}
        found = {"text": "ignored", "finish_reason": "stop", "token_ids": ids, "logprobs": logprobs}
        return {**found, "prompt_token_ids": body["prompt"], **more}

    return answer


def test_with_token_ids_prompts_only_grow_and_what_was_sampled_is_what_is_trained_on(codec: Codec) -> None:
    fake = FakeOpenAI(writes(codec))
    played = play_with(fake, count=3, codec=codec)
    for trajectory in played:
        bodies = [
            b
            for b in fake.bodies
            if b["seed"] in {request_seed(0, trajectory.task.item_id, 0, turn) for turn in range(TURNS)}
        ]
        assert len(bodies) == TURNS
        ids = [turn.completion.token_ids or () for turn in trajectory.turns]
        for before, after, written in zip(bodies, bodies[1:], ids, strict=False):
            assert after["prompt"][: len(before["prompt"]) + len(written)] == [*before["prompt"], *written]
        sequence = codec.encode(trajectory)
        assert list(sequence.ids) == [*bodies[-1]["prompt"], *ids[-1]]
        assert [t for t, ours in zip(sequence.ids, sequence.mask, strict=True) if ours] == [t for i in ids for t in i]
        for turn, body in zip(trajectory.turns, bodies, strict=True):
            assert turn.completion.text == f"go {len(body['prompt'])}"
            assert turn.completion.logprobs == tuple(-0.25 * n for n in range(len(turn.completion.token_ids or ())))
    body = fake.bodies[0]
    assert (body["return_token_ids"], body["stop_token_ids"]) == (True, sorted(codec.stop_ids))
    assert (body["top_k"], body["repetition_penalty"]) == (-1, 1.0)  # not the model's own defaults


def test_an_answer_in_token_ids_that_was_cut_is_closed_and_the_prompt_still_only_grows(codec: Codec) -> None:
    fake = FakeOpenAI(writes(codec, token_ids=codec._encoder.text("go"), finish_reason="length", logprobs=None))
    (played,) = play_with(fake, codec=codec)
    first, second, *_ = (body["prompt"] for body in fake.bodies)
    assert second[: len(first) + 3] == [*first, *codec._encoder.text("go"), codec.stop_id]
    assert played.turns[0].completion.logprobs is None


def test_a_transcript_without_room_for_an_answer_is_not_sent(codec: Codec) -> None:
    roomy = FakeOpenAI(writes(codec))
    play_with(roomy, codec=codec)
    fake = FakeOpenAI(writes(codec))
    (played,) = play_with(fake, codec=codec, context=len(roomy.bodies[1]["prompt"]) + 16)
    assert (played.stop, len(played.turns)) == (StopReason.CONTEXT_FULL, 2)
    assert [body["prompt"] for body in fake.bodies] == [body["prompt"] for body in roomy.bodies[:2]]


@pytest.mark.parametrize(
    ("more", "cure"),
    [
        ({"token_ids": None}, "gives no token ids .* set model.endpoint.tokens=false"),
        ({"prompt_token_ids": [1, 2, 3]}, "read another prompt than it was sent"),
        ({"token_ids": [999_999]}, "another vocabulary: name the tokenizer of its model in model.name"),
    ],
)
def test_a_server_that_does_not_deal_in_our_tokens_ends_the_run(codec: Codec, more: dict[str, Any], cure: str) -> None:
    with pytest.raises(ModelError, match=cure):
        play_with(FakeOpenAI(writes(codec, **more)), codec=codec)


def test_a_run_that_is_stopped_leaves_no_connection_open() -> None:
    def answer(route: str, body: Mapping[str, Any]) -> Any:
        hangs = body["messages"][0]["content"].endswith(tuple("3456789"))
        return Hang if hangs else says("go")(route, body)

    async def run(fake: FakeOpenAI) -> list[Trajectory]:
        pool = EnvPool(sessions=16, format=Raw())
        async with fake:
            async with pool.run((Task(CHATTER.name, i) for i in range(1000)), policy_for(fake)) as trajectories:
                found = []
                async for trajectory in trajectories:
                    found.append(trajectory)
                    if len(found) == 3:
                        pool.stop()
            await fake.all_left()
        return found

    found = trio.run(run, FakeOpenAI(answer))
    assert {t.stop for t in found} == {StopReason.DONE, StopReason.CANCELLED}


def test_misuse_is_an_error_at_once(codec: Codec) -> None:
    fake = FakeOpenAI()
    fake.url = "http://127.0.0.1:1"
    policy: Any = policy_for(fake)

    async def twice() -> None:
        async with policy.running(None), policy.running(None):
            pass

    async def outside() -> None:
        async with policy.actor(None):
            pass

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="one pool at a time"), flatten_subgroups=True):
        trio.run(twice)
    with pytest.raises(RuntimeError, match="actors live inside"):
        trio.run(outside)
    with pytest.raises(RuntimeError, match="while `connected`"):
        trio.run(policy.server.models)
    with pytest.raises(ModelError, match="need the codec"):
        RemotePolicy(
            EndpointSettings(fake.base, tokens=True),
            MODEL,
            settings=GenerationSettings(),
            sampling=Sampling(),
            seed=0,
            context=4096,
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "error", "code", "usage", "finish_reason", "object", "detail"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.integers(200, 599), JSON | st.binary(max_size=30))
def test_whatever_a_server_answers_is_a_reply_or_one_of_the_errors_that_mean_something(status: int, said: Any) -> None:
    import json

    reader = Reader("here", EndpointSettings("here"))
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    known = (
        modelserver.answers.Again,
        modelserver.answers.NotFound,
        modelserver.answers.ContextFull,
        ModelError,
        modelserver.ModelRefused,
    )
    try:
        reply = reader.reply(reader.read(Answer(status, content)))
    except known:
        return
    assert isinstance(reply.choice, dict)


RECIPE = """
name: remote
prompt: brief
model: {name: fake/model, context: 2000}
environments: {maze: {eval: 3, explore: 4}}
generation: {max_tokens: 16}
tracking: {mode: 'off'}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def command(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_eval_and_collect_play_with_a_server_and_write_no_secret(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTE_KEY", KEY)
    with in_a_thread(FakeOpenAI(key=KEY)) as fake:
        options = (f"model.endpoint.url={fake.base}", "model.endpoint.key=REMOTE_KEY", "model.endpoint.concurrency=2")
        code, said = command("eval", str(recipe), *options, capsys=capsys)
        assert (code, "coverage 3/3" in said) == (0, True), said
        assert "fake/model: " in said
        assert " prompt tokens (0 of them cached), " in said
        code, said = command("collect", str(recipe), "--split", "explore", "name=collected", *options, capsys=capsys)
        assert code == 0, said
        assert fake.most <= 2
        assert fake.requests["/v1/models"] == 2
    played = store.read([Path("runs/collected/trajectories/collected-explore.parquet")])
    assert [t.policy for t in played] == ["fake/model"] * 4
    saved = yaml.safe_load(Path("runs/remote/recipe.yaml").read_text())["model"]["endpoint"]
    assert (saved["url"], saved["key"]) == (fake.base, "REMOTE_KEY")
    written = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert len(written) >= 5
    assert not any(KEY.encode() in path.read_bytes() for path in written)


def test_eval_with_token_ids_takes_the_tokenizer_from_a_folder_and_the_name_from_the_endpoint(
    recipe: Path, folder: Path, codec: Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_a_thread(FakeOpenAI(writes(codec))) as fake:
        options = (f"model.name={folder}", f"model.endpoint={{url: '{fake.base}', tokens: true, model: {MODEL}}}")
        code, said = command("eval", str(recipe), *options, capsys=capsys)
    assert code == 0, said
    assert {body["model"] for body in fake.bodies} == {MODEL}


@contextmanager
def serving(**options: Any) -> Iterator[str]:
    with in_a_thread(FakeOpenAI(**options)) as fake:
        yield fake.base


BEFORE: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"key": KEY}, {}, "model.endpoint.key: {base} answered 401"),
    ({}, {"model.name": "fake/modle"}, "model.endpoint: {base} answered 404"),
    ({}, {"model.name": "fake/modle"}, "and no 'fake/modle'; did you mean 'fake/model'?"),
    ({}, {"model.context": "40000"}, "model.context: the server takes no more than 32768 tokens, not 40000"),
    ({}, {"model.endpoint.key": "REMOTE_NOT_SET"}, "model.endpoint.key: the environment variable REMOTE_NOT_SET"),
]


@pytest.mark.parametrize(("server", "overrides", "text"), BEFORE)
def test_what_would_end_the_run_is_told_before_anything_is_written(
    recipe: Path, capsys: pytest.CaptureFixture[str], server: dict[str, Any], overrides: dict[str, str], text: str
) -> None:
    with serving(**server) as base:
        options = [f"{key}={value}" for key, value in {"model.endpoint.url": base, **overrides}.items()]
        code, said = command("eval", str(recipe), *options, capsys=capsys)
    assert code != 0
    assert text.format(base=base) in said
    assert "Traceback" not in said
    assert not Path("runs").exists()


def test_a_server_that_is_not_there_is_one_line_before_anything_is_written(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = command("eval", str(recipe), "model.endpoint.url=http://127.0.0.1:9/v1", capsys=capsys)
    assert code != 0
    assert "model.endpoint.url: no server answers (" in said
    assert "vllm serve" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize("models", [None, [{"id": "another"}], [{"id": MODEL}]])
def test_a_model_is_asked_one_question_before_a_run_whether_its_server_lists_it_or_not(
    recipe: Path, models: list[dict[str, Any]] | None
) -> None:
    with in_a_thread(FakeOpenAI(models=models)) as fake:
        check_play(load_recipe(recipe, [f"model.endpoint.url={fake.base}", "evol.temperature=0.5"]), Split.EXPLORE)
    (body,) = fake.bodies
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 1.0, 16)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            error(500, "no worker"),
            r"model\.endpoint\.url: the server is not ready \(.* answered 500: no worker\): wait",
        ),
        (error(503, "loading model"), r"the server is not ready \(.*: wait until it has loaded its model"),
        (error(402, "pay"), r"model\.endpoint: .*pay"),
    ],
)
def test_a_server_that_answers_with_an_error_is_not_one_that_is_not_there(recipe: Path, said: Any, text: str) -> None:
    fake = FakeOpenAI()
    fake._list = lambda: said
    with in_a_thread(fake), pytest.raises(RecipeError, match=text) as caught:
        check_play(load_recipe(recipe, [f"model.endpoint.url={fake.base}"]), Split.EVAL)
    assert "start it" not in str(caught.value)
    assert "endpoint.key" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_wrong_name_of_a_model_names_the_setting_that_holds_it(recipe: Path, status: int) -> None:
    fake = FakeOpenAI(models=[{"id": MODEL}])
    fake.script.append(error(status, "The model `fake/modle` does not exist"))
    with (
        in_a_thread(fake),
        pytest.raises(RecipeError, match=r"did you mean 'fake/model'\?: set model\.endpoint\.model"),
    ):
        check_play(load_recipe(recipe, [f"model.endpoint={{url: '{fake.base}', model: fake/modle}}"]), Split.EVAL)


def test_a_field_that_a_model_does_not_take_is_told_before_a_run(recipe: Path) -> None:
    fake = FakeOpenAI()
    fake.script.append(error(400, "Unsupported parameter: 'max_tokens'", code="unsupported_parameter"))
    with in_a_thread(fake), pytest.raises(RecipeError, match=r"'max_tokens' \(model.endpoint.options adds fields"):
        check_play(load_recipe(recipe, [f"model.endpoint.url={fake.base}"]), Split.EVAL)


def test_trouble_that_may_pass_does_not_keep_a_run_from_beginning(recipe: Path) -> None:
    fake = FakeOpenAI()
    fake.script.extend([error(429, "busy", [(b"retry-after", b"999")])])
    with in_a_thread(fake):
        check_play(load_recipe(recipe, [f"model.endpoint.url={fake.base}"]), Split.EVAL)


@pytest.mark.parametrize(
    ("more", "model", "text"),
    [
        ({"token_ids": None}, MODEL, r"model\.endpoint\.tokens: .* gives no token ids"),
        ({}, "another", r"model\.endpoint: .*it has fake/model, and no 'another'"),
    ],
)
def test_a_server_without_token_ids_is_told_before_a_run(
    recipe: Path, folder: Path, codec: Codec, more: dict[str, Any], model: str, text: str
) -> None:
    with in_a_thread(FakeOpenAI(writes(codec, **more))) as fake:
        options = [f"model.name={folder}", f"model.endpoint={{url: '{fake.base}', tokens: true, model: {model}}}"]
        with pytest.raises(RecipeError, match=text):
            check_play(load_recipe(recipe, options), Split.EVAL)
    assert (fake.bodies[0]["prompt"], fake.bodies[0]["max_tokens"]) == ([1], 1)


def test_a_remote_model_cannot_learn(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.endpoint: a model behind a server cannot learn"):
        check_fit(load_recipe(recipe, ["model.endpoint.url=http://127.0.0.1:9/v1", "evol.iterations=0"]))


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("model.endpoint={concurrency: 3}", "model.endpoint.url"),
        ("model.endpoint={url: 'http://127.0.0.1:9/v1', concurrency: 0}", "model.endpoint.concurrency: 0 is out of"),
        ("model.endpoint={url: 'http://127.0.0.1:9/v1', key: sk-secret}", "model.endpoint.key: write the name"),
    ],
)
def test_a_recipe_with_wrong_settings_is_refused(recipe: Path, override: str, text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, [override])
    assert text in str(caught.value)


def test_hosted_names_of_models_are_taken_as_they_are(recipe: Path) -> None:
    for name in ("accounts/fireworks/models/x", "openai/gpt-4o:free", "gpt-4o"):
        options = [f"model.name='{name}'", "model.endpoint.url=https://there/v1"]
        assert load_recipe(recipe, options).model.name == name
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe(recipe, ["model.name=a/b/c", "model.endpoint={url: 'https://there/v1', tokens: true}"])


def test_a_run_may_go_on_with_a_server_that_moved_but_not_with_another_model(recipe: Path) -> None:
    here, there, other = (
        load_recipe(recipe, [f"model.endpoint.{setting}" for setting in settings])
        for settings in (["url=http://a/v1"], ["url=http://b/v1", "seconds=5"], ["url=http://a/v1", "tokens=true"])
    )
    assert same_run(here, there) == []
    assert same_run(here, other) == ["model.endpoint.tokens"]


def test_the_example_plays_with_a_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with in_a_thread(FakeOpenAI()) as fake:
        monkeypatch.setattr(sys, "argv", ["remote_model.py", fake.base, MODEL])
        runpy.run_path(str(EXAMPLES / "remote_model.py"), run_name="__main__")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("maze: ")
    assert last.startswith("20 episodes, ")


def test_any_lightning_module_plays_through_a_function() -> None:
    from lightning import LightningModule

    class Walker(LightningModule):
        """Not a language model: it reads how long the conversation is."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 4)

        def forward(self, turns: torch.Tensor) -> torch.Tensor:
            return self.layer(turns)

    module = Walker().eval()

    @torch.inference_mode()
    def choose(turns: int) -> str:
        return ("up", "down", "left", "right")[int(module(torch.tensor([float(turns)])).argmax())]

    async def walk(conversation: Sequence[Message]) -> str:
        move = await trio.to_thread.run_sync(choose, len(conversation))
        return f"Thought:\nThe module says so.\n\nAction:\nmove {move}"

    played = collect(EnvPool(sessions=8), get_spec("maze").select(Split.EXPLORE, 8), walk)
    assert all(t.score is not None and t.policy == "walk" for t in played)


@pytest.mark.parametrize("before", [250, 265, 280, 290])
def test_half_a_key_is_not_repeated_where_a_long_answer_is_cut(before, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-abcdefghijklmnopqrstuvwxyz-0123456789")
    reader = Reader("http://x/v1", EndpointSettings(url="http://x/v1", key="MY_KEY"))
    content = b"x" * before + b" wrong key sk-abcdefghijklmnopqrstuvwxyz-0123456789 " + b"y" * 300
    with pytest.raises(ModelError) as refused:
        reader.read(Answer(status=401, content=content, retry_after=None))
    assert "sk-abc" not in str(refused.value)


def test_what_a_server_says_does_not_command_the_terminal(capsys):
    from agentgym.cli import _say

    _say(["answered 401: \x1b]0;title\x07"], 2)
    assert capsys.readouterr().err == "agentgym: answered 401: \\x1b]0;title\\x07\n"
