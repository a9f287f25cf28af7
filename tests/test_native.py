"""Format `native`: what families of models write when they call tools, and episodes with several calls an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from envpool import (
    Call,
    EnvPool,
    EnvSpec,
    ExpertPolicy,
    MalformedAction,
    Message,
    Step,
    Task,
    Trajectory,
    Transport,
    collect,
    get_spec,
    register,
    tool,
)
from envpool.formats import format_for
from envpool.native import Native
from envpool.places.http import HttpTransport
from envpool.places.local import LocalTransport
from envpool.syntaxes import FAMILIES, HERMES, INVENTED, NO_CALL, Family, read, split
from envpool.syntaxes.gemma import Gemma
from envpool.syntaxes.tagged import Glm, Tagged
from envpool.testing import LiveServer

FIND = Call("find", {"query": "tea"})
GO = Call("go", {})
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string"},
                    "top": {"type": "integer"},
                    "exact": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                    "kind": {"enum": ["1", "2"]},
                    "where": {"type": "object"},
                },
            },
        },
    }
]

# Writing and reading

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        'a"b',
        "a\nb\n",
        "\u2028",
        "</think>",
        "75",
        "null",
        "</tool_call>",
        "[TOOL_CALLS]",
        '{"name": "x", "arguments": {}}',
    ]
)
names = st.text("abcXYZ_", min_size=1, max_size=6)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    texts | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(Call, names, st.dictionaries(names, values, max_size=3))
said = st.sampled_from(["", "Why not.", "<think>\nHm: <tool_call>?\n</think>\n\nSo.", "Two\n\nparts: {a}."])


def holds(family: Family, calls: Sequence[Call]) -> bool:
    """Whether the syntax of a family can hold calls at all; the others have no text to write them with."""
    written = json.dumps([dict(call.arguments) for call in calls], ensure_ascii=False)
    if isinstance(family, Gemma):
        return family.quote not in json.loads(json.dumps(written)) and '<|"|>' not in written
    return not (isinstance(family, Tagged | Glm) and ("</parameter>" in written or "</arg_value>" in written))


def schemas_of(calls: Sequence[Call]) -> list[dict[str, object]]:
    """Schemas that say which arguments are texts; without them a family without quotes cannot tell."""
    found: dict[str, dict[str, object]] = {}
    for call in calls:
        properties = found.setdefault(call.tool, {})
        for name, value in call.arguments.items():
            kind = {"type": "string"} if isinstance(value, str) else {}
            assume(properties.setdefault(name, kind) == kind)
    return [{"function": {"name": name, "parameters": {"properties": each}}} for name, each in found.items()]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.name} {vars_of(family)}")
@given(said=said, calls=st.lists(calls, min_size=1, max_size=3))
def test_what_a_family_writes_it_reads_and_so_does_who_knows_all_of_them(family, said, calls):
    assume(holds(family, calls))
    tools = schemas_of(calls) if isinstance(family, Tagged | Glm) else []
    text = family.write(said, calls)
    assert family.read(text, tools) == (said, tuple(calls))
    assert repr(read(text, tools).calls) == repr(family.read(text, tools).calls)


def vars_of(family: Family) -> str:
    return " ".join(
        str(getattr(family, name)) for name in ("gap", "ids", "null", "first", "python") if hasattr(family, name)
    )


ARGUMENTS = '{"query": "tea"}'
AS_HERMES = f'<tool_call>\n{{"name": "find", "arguments": {ARGUMENTS}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"Tea.\n{AS_HERMES}<|im_end|>", "Tea."),
        (f"<think>\n<tool_call>{{}}?\n</think>\n\n{AS_HERMES}", "<think>\n<tool_call>{}?\n</think>"),
        (f"so I go</think>{AS_HERMES}", "so I go</think>"),
        (f"{AS_HERMES}\n<tool_response>\nfound\n</tool_response>\nGood.", ""),
        (f'<tool_call>{{"name": "find", "arguments": {ARGUMENTS}}}', ""),
        ("<tool_call>{'name': 'find', 'arguments': {'query': 'tea',}}</tool_call>", ""),
        ('<tool_call>[{"name": "find", "parameters": {"query": "tea"}}]</tool_call>', ""),
        ("<tool_call>\n<function=find>\n<parameter=query>\ntea\n</parameter>\n</function>\n</tool_call>", ""),
        ("Tea.\n<tool_call>find\n<arg_key>query</arg_key>\n<arg_value>tea</arg_value>\n</tool_call>", "Tea."),
        ("Tea.\n<function=find><parameter=query>tea</parameter></function>", "Tea."),
        ('{"name": "find", "parameters": {"query": "tea"}}<|eom_id|>', ""),
        ('<|python_tag|>{"type": "function", "name": "find", "parameters": {"query": "tea"}}', ""),
        (f"<function=find>{ARGUMENTS}</function><|eot_id|>", ""),
        ('Tea:\n```json\n{"name": "find", "arguments": {"query": "tea"}}\n```', "Tea:"),
        ('{"tool_calls": [{"id": "1", "function": {"name": "find", "arguments": "{\\"query\\": \\"tea\\"}"}}]}', ""),
        (f'Tea.[TOOL_CALLS] [{{"name": "find", "arguments": {ARGUMENTS}, "id": "abcdefghi"}}]</s>', "Tea."),
        (f"[TOOL_CALLS]find[CALL_ID]abcdefghi[ARGS]{ARGUMENTS}", ""),
        (f"[THINK]Hm.[/THINK][TOOL_CALLS]find[ARGS]{ARGUMENTS}", "[THINK]Hm.[/THINK]"),
        (f"[TOOL_CALLS]find{ARGUMENTS}", ""),
        ("<start_function_call>call:find{query:<escape>tea<escape>}<end_function_call>", ""),
        ('<|channel>thought\nTea.\n<channel|><|tool_call>call:find{query:<|"|>tea<|"|>}<tool_call|>', "Tea."),
        ("<|tool_call>call:find{query:tea}<tool_call|>", ""),
        (f"<|channel|>analysis<|message|>Tea.<|end|><|start|>assistant<|channel|>commentary to=functions.find "
         f"<|constrain|>json<|message|>{ARGUMENTS}<|call|>", "Tea."),
        (f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.find<|channel|>commentary "
         f"json<|message|>{ARGUMENTS}", "I look."),
    ],
)  # fmt: skip
def test_a_call_is_read_in_the_syntax_of_every_family(text, said):
    assert read(text, TOOLS) == (said, (FIND,))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "find", "parameters": {"query": "tea"}}; {"name": "go", "parameters": {}}',
        '<|python_tag|>{"name": "find", "parameters": {"query": "tea"}}\n{"name": "go", "parameters": {}}',
        f"First {AS_HERMES} and then <tool_call>{{\"name\": \"go\"}}</tool_call>.",
        "<function=find>\n<parameter=query>\ntea\n</parameter>\n</function>\n<function=go>\n</function>",
        f"[TOOL_CALLS]find[ARGS]{ARGUMENTS}[TOOL_CALLS]go[ARGS]{{}}",
        '<|tool_call>call:find{query:<|"|>tea<|"|>}<tool_call|><|tool_call>call:go{}<tool_call|>',
    ],
)  # fmt: skip
def test_several_calls_are_read_in_their_order(text):
    assert read(text).calls == (FIND, GO)


def test_arguments_without_quotes_are_what_the_schema_says():
    given = {"query": "75", "top": "3", "exact": "True", "kind": "2", "where": '{"a": [1, null]}', "other": "7"}
    parameters = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in given.items())
    (call,) = read(f"<tool_call>\n<function=find>\n{parameters}</function>\n</tool_call>", TOOLS).calls
    assert call.arguments == {
        "query": "75", "top": 3, "exact": True, "kind": "2", "where": {"a": [1, None]}, "other": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I am done.", NO_CALL),
        ("", NO_CALL),
        (f"<think>I could {AS_HERMES}", "your private thoughts do not end"),
        ("<tool_call>find tea</tool_call>", 'Write a call as {"name": ..., "arguments": {...}}'),
        ('<tool_call>{"arguments": {}}</tool_call>', "Your call names no tool"),
        ('<tool_call>{"name": "find", "arguments": [1]}</tool_call>', "must be a JSON object that holds them by name"),
        ('<tool_call>{"name": "find", "arguments": {"query": "te', "does not end"),
        ('{"name": "find", "parameters": {"query": "te', "does not end"),
        ("<function=find><parameter=query>tea", "The parameter 'query' does not end"),
        ("<function=find><parameter=query>tea</parameter>", "Your call of find does not end"),
        ('<|python_tag|>find.call(query="tea")', "not with code: 'find.call"),
        ("[TOOL_CALLS]", "Name a tool behind [TOOL_CALLS]"),
        ('<|tool_call>call:find{query:<|"|>te', 'close it with <|"|>'),
        ("<|channel|>commentary to=functions.find<|message|>tea", "Write the arguments of a call as a JSON object"),
        (f"{AS_HERMES}\n<tool_response>\nfound\n</tool_response>\n{AS_HERMES}", INVENTED),
        (f"<tool_response>\n{AS_HERMES}\n</tool_response>\n{AS_HERMES}", INVENTED),
        (f"[TOOL_RESULTS]{AS_HERMES}[/TOOL_RESULTS]", INVENTED),
        (f"{AS_HERMES}\nObservation: found.\n{AS_HERMES}", INVENTED),
        (f"{AS_HERMES}<|im_end|>\n<|im_start|>assistant\n{AS_HERMES}", INVENTED),
        (f"{AS_HERMES}\n<think>or {AS_HERMES}", "thoughts do not end"),
        ('{"name": "find", "arguments": {}} or {"name": "go", "arguments": {}}', "with nothing in between"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_read_is_answered_with_what_is_wrong(text, words):
    with pytest.raises(MalformedAction) as malformed:
        read(text, TOOLS)
    assert words in str(malformed.value)
    assert split(text) == (text, ())


@given(text=st.text(max_size=30) | st.lists(st.sampled_from(
    ["<tool_call>", "</tool_call>", "{", "}", '"name"', ":", "find", "<function=", ">", "<parameter=", "</parameter>",
     "[TOOL_CALLS]", "[", "]", "<|tool_call>", "call:", '<|"|>', "<|channel|>", "<|message|>", "to=functions.find ",
     "commentary", "<think>", "</think>", ",", "\n", "<|python_tag|>", "<escape>", "1", "<|start|>"]), max_size=12)
    .map("".join))  # fmt: skip
def test_whatever_an_answer_is_it_is_read_or_corrected(text):
    form = format_for("native", get_spec("maze"))
    with suppress(MalformedAction):
        parsed = form.parse(text)
        assert parsed.calls
        assert parsed.action == "\n".join(parsed.texts)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" + "{/*" * 60_000,
        "[TOOL_CALLS]a" + "{/*" * 60_000,
        AS_HERMES.replace("{", "{" + "".join(f'"a{n}": 1, ' for n in range(30_000)) + '"a9": 1, ', 1),
    ],
)
def test_no_answer_takes_longer_to_read_than_its_length_asks_for(text):
    begin = time.process_time()
    with pytest.raises(MalformedAction):
        read(text, TOOLS)
    assert time.process_time() - begin < 3  # all pairs of its parts would take half a minute and more


# The format


MAZE = format_for("native", get_spec("maze"))
UP, LEFT = Call("move", {"direction": "up"}), Call("move", {"direction": "left"})


@given(thought=st.text(max_size=20) | said | st.sampled_from([AS_HERMES, "a</think>b", "x <tool_response> y"]))
def test_what_an_expert_does_is_read_as_it_was_meant(thought):
    for action in ("move up", 'wait\n"and" see', "{}"):
        assert MAZE.parse(MAZE.render(thought, action)).action == action
    both = MAZE.parse(MAZE.render("", UP, LEFT))
    assert (both.calls, both.texts, both.action) == ((UP, LEFT), ("move up", "move left"), "move up\nmove left")


def test_tools_are_offered_as_data_and_the_prompt_does_not_list_them():
    assert isinstance(MAZE, Native)
    assert [tool["function"]["name"] for tool in MAZE.schemas] == ["move", "act"]
    assert "direction" not in MAZE.instructions


def test_a_call_that_cannot_be_carried_out_names_what_is_wrong_and_keeps_all_calls():
    with pytest.raises(MalformedAction, match=r"There is no function 'mov'; did you mean 'move'\?") as one:
        MAZE.parse(HERMES.write("", [Call("mov", {})]))
    assert one.value.calls == (Call("mov", {}),)
    with pytest.raises(
        MalformedAction, match=r"None of your 2 calls was carried out\. move needs .*'direction'"
    ) as two:
        MAZE.parse(HERMES.write("", [UP, Call("move", {})]))
    assert len(two.value.calls) == 2


# Episodes


def played(*answers: str, max_turns: int = 8) -> tuple[Trajectory, list[tuple[Message, ...]]]:
    heard: list[tuple[Message, ...]] = []

    left = iter(answers)

    def answer(conversation: Sequence[Message]) -> str:
        heard.append(tuple(conversation))
        return next(left)

    pool = EnvPool(sessions=1, format="native", max_turns={"maze": max_turns})
    (trajectory,) = collect(pool, [Task("maze", 3)], answer)
    return trajectory, heard


def test_several_calls_are_carried_out_in_order_and_each_counts_against_the_limit():
    both, many = HERMES.write("Go.", [UP, LEFT]), HERMES.write("", [UP] * 30)
    trajectory, heard = played(both, "nothing", HERMES.write("", [UP, Call("fly", {})]), many, max_turns=6)
    first, none, unknown, last = trajectory.turns
    assert (first.action, first.calls, len(first.results)) == ("move up\nmove left", (UP, LEFT), 2)
    assert first.observation == "\n\n".join(first.results)
    assert (none.action, none.calls, none.observation) == (None, (), NO_CALL)
    assert (unknown.action, len(unknown.calls)) == (None, 2)
    assert (len(last.calls), len(last.results)) == (30, 2)  # two actions, two corrections, and two more
    assert [message.role for message in trajectory.messages] == [
        *("system", "user", "assistant", "tool", "tool", "assistant", "user", "assistant", "tool", "tool", "assistant"),
    ]
    assert heard[-1] == tuple(trajectory.messages[:-1])
    assert trajectory.messages[2] == Message("assistant", "Go.", (UP, LEFT))
    assert {message.content for message in trajectory.messages[8:10]} == {unknown.observation}
    assert [tool["function"]["name"] for tool in trajectory.tools] == ["move", "act"]


def test_calls_behind_the_one_that_ends_an_episode_are_not_carried_out():
    way = [Call("act", {"action": turn.action}) for turn in expert().turns]
    trajectory, _ = played(HERMES.write("", [*way, UP, UP]), max_turns=30)
    (turn,) = trajectory.turns
    assert (trajectory.stop, trajectory.success) == ("done", True)
    assert (len(turn.calls), len(turn.results)) == (len(way) + 2, len(way))
    assert turn.action == "\n".join(turn.action for turn in expert().turns if turn.action)


def expert() -> Trajectory:
    (trajectory,) = collect(EnvPool(sessions=1, format="native"), [Task("maze", 3)], ExpertPolicy())
    return trajectory


def test_an_expert_plays_every_embedded_environment_with_calls_as_it_plays_with_text():
    tasks = [Task(name, get_spec(name).tasks("train")[0]) for name in ("babyai", "maze", "textcraft", "wordle")]
    native = collect(EnvPool(format="native"), tasks, ExpertPolicy())
    text = collect(EnvPool(), tasks, ExpertPolicy())
    assert [(t.success, [(turn.action, turn.observation) for turn in t.turns]) for t in native] == [
        (t.success, [(turn.action, turn.observation) for turn in t.turns]) for t in text
    ]
    assert all(len(turn.calls) == 1 for t in native for turn in t.turns)
    assert all(turn.calls == () for t in text for turn in t.turns)


# Environments that take calls


@tool
def write(name: str, lines: list[str], meta: dict[str, int | None] | None = None) -> None:
    """writes a file"""


class Files:
    """Takes calls and says what it was given."""

    def reset(self, index: int) -> str:
        self._given = 0
        return "Write."

    def step(self, action: Call) -> Step:
        self._given += 1
        said = json.dumps([action.tool, dict(action.arguments)], ensure_ascii=False)
        besides = {"given": self._given, "part": 0.5, "last": action.tool}
        return Step(said, 0.0, done=False, info=besides | ({"named": 1} if action.arguments["name"] == "7" else {}))

    def available_actions(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


FILES = register(
    EnvSpec(
        name="files_for_native",
        version="1",
        summary="Files.",
        instructions="Write files.",
        brief="Write.",
        make=Files,
        tasks=lambda split: range(10),
        max_turns=3,
        success_above=0.5,
        place="inline",
        tools=(write,),
        takes_calls=True,
    )
)


def test_an_environment_that_takes_calls_is_given_them_as_they_were_meant_and_what_it_says_besides_is_kept():
    given = {"name": 'a "b"\n\u2028é', "lines": ["", "</tool_call>", "\n"], "meta": {"x": 10**20, "y": None}}
    answer = HERMES.write("Both.", [Call("write", {"name": "7", "lines": []}), Call("write", given)])
    (trajectory,) = collect(EnvPool(format="native"), [Task(FILES.name, 0)], lambda conversation: answer)
    first, second = trajectory.turns  # of three actions
    assert [json.loads(result) for result in first.results] == [
        ["write", {"name": "7", "lines": []}],
        ["write", given],
    ]
    assert first.info == {"given": 2, "part": 0.5, "last": "write", "named": 1}  # "named" is of the first call
    assert (second.results, second.info["given"], len(second.calls)) == ((), 3, 2)
    assert "act" not in [one["function"]["name"] for one in trajectory.tools]


# Wherever sessions live


async def played_with(transport: Transport) -> list[Trajectory]:
    both, wrong = HERMES.write("Go.", [UP, LEFT]), HERMES.write("", [UP, Call("fly", {})])
    several = HERMES.write("Both.", [Call("write", {"name": "a\n", "lines": ["x"]})] * 2)

    async def answer(conversation: Sequence[Message]) -> str:
        if conversation[0].content.startswith("Write"):
            return several
        return [both, wrong][sum(message.role == "assistant" for message in conversation) % 2]

    pool = EnvPool(sessions=4, format="native", transport=transport, max_turns={"maze": 6})
    tasks = [*[Task("maze", index) for index in range(3)], Task(FILES.name, 0)]
    async with pool.run(tasks, answer) as found:
        return sorted([replace(each, seconds=0.0) async for each in found], key=lambda each: each.task)


def test_calls_are_carried_out_alike_in_every_place_and_behind_a_server():
    async def main() -> None:
        alone = await played_with(LocalTransport())
        assert [each.stop for each in alone] == ["max_turns"] * 4
        assert sum(len(turn.results) for each in alone for turn in each.turns) == 3 * 2 * 2 + 2
        assert [turn.info["given"] for turn in alone[0].turns] == [2, 3]
        assert await played_with(LocalTransport("thread")) == alone
        assert await played_with(LocalTransport("process", processes=1)) == alone
        async with LiveServer("maze") as maze, LiveServer(FILES) as files:
            served = await played_with(HttpTransport({"maze": [maze.url], FILES.name: [files.url]}))
        assert served == alone

    trio.run(main)
