"""Format `native` with a model behind a server: OpenAI's `tools`, `tool_calls` and messages of role `tool`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from fake_openai import MODEL, FakeOpenAI, error, in_a_thread

from agentgym.errors import ModelError, RecipeError
from agentgym.generation.messages import spoken_natively
from agentgym.generation.remote import RemotePolicy
from agentgym.generation.sampling import Sampling
from agentgym.preflight import check_play
from agentgym.recipe import load_recipe
from agentgym.settings import EndpointSettings, GenerationSettings
from envpool import Call, EnvPool, MalformedAction, Split, Task, Trajectory, get_spec
from envpool.formats import format_for
from envpool.native import offered
from envpool.syntaxes import HERMES, NO_CALL, split

NATIVE = format_for("native", get_spec("maze"))
UP, LEFT = Call("move", {"direction": "up"}), Call("move", {"direction": "left"})


def call(name: str, arguments: str, identity: str = "call_a") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def saying(*messages: Mapping[str, Any]) -> FakeOpenAI:
    """A server whose model says one thing after the other."""
    left = iter(messages)

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **next(left)}}

    return FakeOpenAI(answer)


def play(fake: FakeOpenAI, turns: int) -> Trajectory:
    async def run() -> Trajectory:
        async with fake:
            policy = RemotePolicy(
                EndpointSettings(fake.base),
                MODEL,
                settings=GenerationSettings(max_tokens=16),
                sampling=Sampling(),
                seed=0,
                context=4096,
            )
            pool = EnvPool(sessions=1, format="native", max_turns={"maze": turns})
            async with pool.run([Task("maze", 3)], policy) as found:
                return await anext(found)

    return trio.run(run)


def test_tools_calls_and_results_travel_as_data_under_the_servers_ids() -> None:
    both = [call("move", '{"direction": "up"}', "call_x"), call("move", '{"direction":"left"}', "call_y")]
    fake = saying(
        {"content": "I go.", "tool_calls": both},
        {"content": None, "tool_calls": [call("move", '{"direction": "up"}')]},
        {"content": "done", "tool_calls": []},
    )
    played = play(fake, 4)
    first, second, third = fake.bodies
    assert "tool_choice" not in first
    assert first["tools"] == json.loads(json.dumps(offered(NATIVE)))
    assert first["messages"] == [
        {"role": "system", "content": played.prompt},
        {"role": "user", "content": played.observation},
    ]
    turn = played.turns[0]
    assert (turn.calls, turn.action) == ((UP, LEFT), "move up\nmove left")
    assert second["messages"] == [
        *first["messages"],
        {
            "role": "assistant",
            "content": "I go.",
            "tool_calls": [
                call("move", '{"direction": "up"}', "call_x"),
                call("move", '{"direction": "left"}', "call_y"),
            ],
        },
        {"role": "tool", "tool_call_id": "call_x", "content": turn.results[0]},
        {"role": "tool", "tool_call_id": "call_y", "content": turn.results[1]},
    ]
    assert third["messages"][-2]["tool_calls"][0]["id"] == third["messages"][-1]["tool_call_id"] == "call_a"
    assert (played.turns[2].action, played.turns[2].observation) == (None, NO_CALL)
    assert [turn.completion.text for turn in played.turns] == [
        HERMES.write("I go.", [UP, LEFT]), HERMES.write("", [UP]), "done",
    ]  # fmt: skip


def test_calls_that_a_server_leaves_in_the_text_are_carried_out_and_go_back_as_data() -> None:
    text = 'Up.\n{"name": "move", "parameters": {"direction": "up"}}'
    fake = saying({"content": text}, {"content": text})
    played = play(fake, 2)
    assert [turn.action for turn in played.turns] == ["move up"] * 2
    said, heard = fake.bodies[1]["messages"][-2:]
    assert (said["content"], said["tool_calls"][0]["function"]["name"]) == ("Up.", "move")
    assert said["tool_calls"][0]["id"] == heard["tool_call_id"] != ""


def test_mistakes_are_corrected_for_each_call_and_calls_that_cannot_be_read_go_back_as_text() -> None:
    unknown = {"content": None, "tool_calls": [call("move", '{"direction": "up"}', "a"), call("fly", "{}", "b")]}
    half = {"content": None, "tool_calls": [call("move", '{"direction": "u')]}
    fake = saying(unknown, half, {"content": "?"})
    played = play(fake, 3)
    assert [turn.action for turn in played.turns] == [None, None, None]
    wrong = played.turns[0].observation
    assert "There is no function 'fly'" in wrong
    assert fake.bodies[1]["messages"][-2:] == [
        {"role": "tool", "tool_call_id": "a", "content": wrong},
        {"role": "tool", "tool_call_id": "b", "content": wrong},
    ]
    said, heard = fake.bodies[2]["messages"][-2:]
    assert (said["role"], "tool_calls" in said, '"direction": "u' in said["content"]) == ("assistant", False, True)
    assert heard == {"role": "user", "content": played.turns[1].observation}


def called(*calls: object, content: object = None) -> dict[str, Any]:
    return {"content": content, "tool_calls": list(calls)}


MOVE = call("move", '{"direction": "up"}')
USE = {"type": "tool_use", "id": "t", "name": "move", "input": {"direction": "up"}}
SAID: dict[str, tuple[Mapping[str, Any], Sequence[Call] | None, str]] = {
    "an object": (called({"function": {"name": "move", "arguments": {"direction": "up"}}}), [UP], ""),
    "the older form": ({"content": "", "function_call": MOVE["function"]}, [UP], ""),
    "parts": ({"content": [{"type": "text", "text": "Up."}, USE]}, [UP], "Up."),
    "the same call twice": (called(MOVE, content=HERMES.write("Up.", [UP])), [UP], "Up."),
    "a draft in the text": (called(MOVE, content="Not <tool_call>{} but"), [UP], "Not < tool_call>{} but"),
    "thoughts that do not end": (called(MOVE, content="<think>Up"), [UP], "Up"),
    "no name": (called({"function": {"arguments": "{}"}}), None, ""),
    "arguments that are a list": (called(call("move", "[1]")), None, ""),
    "a call that is text": (called("move up"), None, ""),
    "no arguments": (called(call("look", "")), [Call("look", {})], ""),
}


@pytest.mark.parametrize("case", SAID)
def test_what_servers_say_is_read_or_corrected_and_never_lost(case: str) -> None:
    message, calls, said = SAID[case]
    text, _ = spoken_natively(message)
    if calls is None:
        with pytest.raises(MalformedAction):
            NATIVE.parse(text)
        assert text
    else:
        assert split(text) == (said, tuple(calls))


def test_a_server_that_takes_no_tools_ends_the_run_with_a_cure() -> None:
    fake = saying()
    words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    fake.script.append(error(400, words))
    with pytest.raises(ModelError, match=r"format=native needs a server that takes tools.*set format=function_calling"):
        play(fake, 1)


def test_a_run_looks_first_whether_its_server_takes_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = f"model: {{name: {MODEL}, context: 1000}}\ngeneration: {{max_tokens: 16}}\nformat: native\n"
    Path("recipe.yaml").write_text(f"name: native\nenvironments: {{maze: {{eval: 1}}}}\n{settings}")
    with in_a_thread(FakeOpenAI()) as fake:
        recipe = load_recipe(Path("recipe.yaml"), [f"model.endpoint.url={fake.base}"])
        check_play(recipe, Split.EVAL)
        assert [tool["type"] for tool in fake.bodies[-1]["tools"]] == ["function"]
        fake.script.append(error(400, "tools are not supported"))
        with pytest.raises(RecipeError, match=r"model\.endpoint: .*or set format=function_calling"):
            check_play(recipe, Split.EVAL)
