"""Calls of tools as data: out to other programs and in again, and in from foreign data."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.data.agenttraj import read_record
from agentgym.data.exports import write_messages, write_record, write_rollout
from envpool import Call, EnvPool, Task, Trajectory, collect
from envpool.syntaxes import FAMILIES, HERMES

MOVE = {"name": "move", "arguments": {"direction": "up"}}
TOOL = {
    "type": "function",
    "function": {
        "name": "move",
        "description": "Moves.",
        "parameters": {"type": "object", "properties": {"direction": {"type": "string"}}},
    },
}
ASKED = {"role": "user", "content": "You are at 1,2."}


def move(direction: str) -> Call:
    return Call("move", {"direction": direction})


def read(record: object, remarks: set[str] | None = None) -> Trajectory:
    return read_record(json.loads(json.dumps(record)), Counter(), remarks=remarks)


def answer(*names: str, **more: object) -> dict[str, Any]:
    calls = [{"id": f"c{n}", "type": "function", "function": {**MOVE, "name": name}} for n, name in enumerate(names)]
    return {"role": "assistant", "content": "I go.", "tool_calls": calls, **more}


def result(call: str, text: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call, "content": text}


# Out and in again

moves = st.sampled_from(["up", "down", "left", "right"]).map(move)
mistakes = st.sampled_from([Call("fly", {}), Call("move", {}), Call("act", {"action": 'wait\n"and" see é'})])
said = st.sampled_from(["", "Why not.", "<think>\nHm.\n</think>\n\nSo.", "<think>\nHm.\n</think>", "It is\n\nfree."])
spelt = st.builds(
    lambda family, said, calls: family.write(said, calls),
    st.sampled_from(FAMILIES),
    said,
    st.lists(moves | mistakes, min_size=1, max_size=3),
)
answers = spelt | st.sampled_from(["I am done.", '<tool_call>{"name": "move", </tool_call>', ""])


def played(texts: list[str], max_turns: int) -> Trajectory:
    left = iter(texts)
    pool = EnvPool(sessions=1, format="native", max_turns={"maze": max_turns})
    (trajectory,) = collect(pool, [Task("maze", 3)], lambda conversation: next(left))
    return trajectory


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(answers, min_size=6, max_size=6), max_turns=st.integers(1, 6), write=st.sampled_from(["m", "r"]))
def test_what_was_played_with_calls_comes_back_as_it_went_out(texts, max_turns, write):
    out = played(texts, max_turns)
    written = (write_messages if write == "m" else write_rollout)(out)
    remarks: set[str] = set()
    back = read(written, remarks)
    assert remarks == set()
    same = ("task", "prompt", "observation", "stop", "score", "success", "version", "policy", "acknowledgement")
    assert [getattr(back, name) for name in same] == [getattr(out, name) for name in same]
    assert back.tools == tuple(json.loads(json.dumps(out.tools)))
    for before, after in zip(out.turns, back.turns, strict=True):
        assert (after.completion, after.action, after.calls) == (before.completion, before.action, before.calls)
        assert (after.observation, after.results, after.info) == (before.observation, before.results, before.info)
    assert back.messages == out.messages


def test_messages_hold_calls_as_data_with_ids_that_their_results_name():
    out = played([HERMES.write("Go.", [move("up"), move("left")]), HERMES.write("", [move("fly away")])], 3)
    written = write_messages(out)
    roles = [message["role"] for message in written["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant"]
    _, _, both, first, second, last = written["messages"]
    assert both["content"] == "Go."
    assert [call["function"] for call in both["tool_calls"]] == [
        {"name": "move", "arguments": {"direction": "up"}},
        {"name": "move", "arguments": {"direction": "left"}},
    ]
    ids = [call["id"] for call in [*both["tool_calls"], *last["tool_calls"]]]
    assert [first["tool_call_id"], second["tool_call_id"]] == ids[:2]
    assert len(set(ids)) == 3
    assert [tool["function"]["name"] for tool in written["tools"]] == ["move", "act"]


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(spelt, min_size=3, max_size=3))
def test_agenttraj_holds_calls_as_text_in_the_neutral_spelling(texts):
    out = played(texts, 3)
    record = write_record(out)
    assert {message["from"] for message in record["conversations"]} == {"human", "gpt"}
    back = read(record)
    assert (back.prompt, back.observation, len(back.tools)) == (out.prompt, out.observation, len(out.tools))
    assert back.messages[1:] == out.messages[1:]
    assert [HERMES.read(turn.completion.text).calls for turn in back.turns] == [turn.calls for turn in out.turns]
    assert [turn.results for turn in back.turns[:-1]] == [turn.results for turn in out.turns[:-1]]


# In from foreign data


def test_calls_of_declared_tools_are_data_and_several_are_carried_out_in_order():
    given = {
        "item_id": "maze_3",
        "tools": [TOOL],
        "messages": [
            {"role": "system", "content": "Walk."},
            ASKED,
            answer("move", "move"),
            result("c1", "second"),
            result("c0", "first"),
            answer("move", tool_calls=[MOVE]),
            {"role": "user", "content": "there"},
        ],
    }
    remarks: set[str] = set()
    trajectory = read(given, remarks)
    assert remarks == set()
    assert (trajectory.tools, trajectory.prompt, trajectory.observation) == ((TOOL,), "Walk.", "You are at 1,2.")
    first, second = trajectory.turns
    assert first.completion.text == HERMES.write("I go.", [move("up"), move("up")])
    assert (first.calls, first.action) == ((move("up"), move("up")), "move up\nmove up")
    assert (first.results, first.observation) == (("first", "second"), "first\n\nsecond")
    assert (second.calls, second.action, second.results, second.observation) == ((move("up"),), "move up", (), "there")


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL],
        json.dumps([TOOL]),
        [TOOL["function"]],
        [{"name": "move", "description": "Moves.", "input_schema": TOOL["function"]["parameters"]}],
    ],
)
def test_tools_are_declared_in_any_of_the_usual_shapes(tools):
    trajectory = read({"item_id": "maze_3", "tools": tools, "messages": [ASKED, answer("move")]})
    assert trajectory.tools == (TOOL,)


def test_several_calls_of_the_environments_tools_are_data_though_none_are_declared():
    told = {"item_id": "maze_3", "messages": [ASKED, answer("move", "move"), result("c0", "a"), result("c1", "b")]}
    trajectory = read(told)
    assert [tool["function"]["name"] for tool in trajectory.tools] == ["move", "act"]
    assert trajectory.turns[0].results == ("a", "b")
    with pytest.raises(ValueError, match="message 1 makes 2 calls at once, and a turn is one action"):
        read({"item_id": "maze_3", "messages": [ASKED, answer("move", "fly")]})


def test_a_call_of_no_declared_tool_is_text_and_the_declared_functions_are_told():
    trajectory = read({"item_id": "maze_3", "tools": [TOOL], "messages": [ASKED, answer("fly")]})
    assert (trajectory.tools, trajectory.turns[0].calls) == ((), ())
    assert trajectory.prompt.startswith('The functions are:\n{"name": "move"')


def test_results_in_one_message_are_given_to_their_calls():
    content = [{"type": "tool_use", "id": name, "name": "move", "input": {"direction": "up"}} for name in "ab"]
    heard = [{"type": "tool_result", "tool_use_id": name, "content": f"for {name}"} for name in "ba"]
    messages = [ASKED, {"role": "assistant", "content": content}, {"role": "user", "content": heard}]
    trajectory = read({"item_id": "maze_3", "tools": [TOOL], "messages": messages})
    assert trajectory.turns[0].results == ("for a", "for b")


def test_thoughts_and_ends_of_foreign_answers_with_calls_are_kept():
    given = answer("move", reasoning_content="Hm.", finish_reason="length", weight=0)
    (turn,) = read({"item_id": "maze_3", "tools": [TOOL], "messages": [ASKED, given]}).turns
    assert turn.completion.text == HERMES.write("<think>\nHm.\n</think>\n\nI go.", [move("up")])
    assert (turn.completion.cut, turn.learned) == (True, False)


def test_an_environment_that_is_not_known_has_calls_as_agentgym_writes_them():
    (turn,) = read(
        {"item_id": "shop_3", "environment": "shop", "tools": [TOOL], "messages": [ASKED, answer("move")]}
    ).turns
    assert turn.action == 'move with Action Input: {"direction": "up"}'
