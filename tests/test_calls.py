"""Calls survive every form: as text, as JSON, as code, natively, and on the wire of AgentGym's tool servers."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from known import DIALECTS
from test_pool import card, play
from typing_extensions import TypedDict

from envpool import (
    Call,
    ExpertPolicy,
    MalformedAction,
    RandomPolicy,
    Step,
    StopReason,
    Task,
    get_spec,
    tool,
)
from envpool.calls import Toolbox
from envpool.formats import FORMATS, CodeAsAction, FunctionCalling, ReAct, format_for
from envpool.native import Native
from envpool.schemas import DEEPEST
from envpool.tools import tools_of


class Part(TypedDict):
    name: str
    size: float


@dataclass
class Whole:
    parts: list[Part]
    made: bool


@tool
def build(
    name: str,
    count: int,
    weight: float,
    firm: bool,
    way: Literal["up", "down", 3, "3 "],
    whole: Whole,
    anything: Any = ...,
    note: str | None = ...,
) -> None:
    """builds it"""


@tool("put {object} into {container} {times} times")
def put(object: str, container: str, times: int) -> None: ...


@tool("switch {name} {on}")
def switch(name: Literal["lamp", "big lamp"], on: bool) -> None: ...


TEXTS = st.text() | st.text(alphabet="\"'`{}[]()\\\n\r\t\x00\x85\u2028\u2029</think>#,: a\U0001f600", max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.integers(-(10**300), 10**300)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "count": st.integers(-(10**300), 10**300),
        "weight": NUMBERS,
        "firm": st.booleans(),
        "way": st.sampled_from(["up", "down", 3, "3 "]),
        "whole": st.fixed_dictionaries(
            {
                "parts": st.lists(st.fixed_dictionaries({"name": TEXTS, "size": NUMBERS}), max_size=2),
                "made": st.booleans(),
            }
        ),
    },
    optional={"anything": ANYTHING, "note": st.none() | TEXTS},
).map(lambda arguments: Call("build", arguments))

OF_CALLS = Toolbox([build, put, switch], calls=True)
FORMS = [ReAct(OF_CALLS), FunctionCalling(OF_CALLS), CodeAsAction(OF_CALLS), Native(OF_CALLS)]
BUILT: dict[str, Any] = {
    "name": "a",
    "count": 1,
    "weight": 1,
    "firm": True,
    "way": 3,
    "whole": {"parts": [], "made": True},
}
NESTED: Any = "x"
for _ in range(DEEPEST - 1):
    NESTED = [NESTED]


def exact(arguments: Mapping[str, Any]) -> str:
    """Tells ``True`` from 1 and 1 from 1.0, which are equal."""
    return repr(sorted(arguments.items()))


def test_every_format_is_tried() -> None:
    assert [form.name for form in FORMS] == list(FORMATS)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@settings(deadline=None)
@given(thought=st.text(), call=CALLS)
@example(thought="", call=Call("build", BUILT | {"count": 10**4000 - 1, "anything": NESTED}))
@example(thought="</think>", call=Call("build", BUILT | {"name": "<think>\n</think>", "note": None}))
@example(thought="Action: x", call=Call("build", BUILT | {"name": "\u2028```\nAction: y", "anything": {"": [1.0, 1]}}))
def test_a_call_survives_every_form_unchanged(form: Any, thought: str, call: Call) -> None:
    parsed = form.parse(form.render(thought, call))
    assert [(each.tool, exact(each.arguments)) for each in parsed.calls] == [("build", exact(call.arguments))]
    assert "\n" not in parsed.action
    assert exact(OF_CALLS.call(parsed.action).arguments) == exact(call.arguments)


@given(CALLS)
@example(Call("build", BUILT | {"name": "true: null }{ True"}))
def test_on_the_wire_of_a_tool_server_python_reads_the_values_that_were_meant(call: Call) -> None:
    wire, text = DIALECTS["weather"], OF_CALLS.text(call)
    sent = wire.write_action(text)
    read = ast.literal_eval(sent.removeprefix("Action: build with Action Input: "))
    assert exact(read) == exact(call.arguments)
    assert wire.read_action(sent) == text


@pytest.mark.parametrize(
    ("action", "sent"),
    [
        ("f with Action Input: {'it': True}", "f with Action Input: {'it': True}"),
        ('f with Action Input: {"a": null, true: 1}', 'f with Action Input: {"a": None, true: 1}'),
        (r'f with Action Input: {"a": "\ud83d\ude00\/\n"}', 'f with Action Input: {"a": "\U0001f600/\\n"}'),
        (r'f with Action Input: {"a": "\ud83d"}', r'f with Action Input: {"a": "\ud83d"}'),
        ('f with Action Input: {"a": true', 'f with Action Input: {"a": true'),
        ("true", "true"),
    ],
)  # fmt: skip
def test_the_dialect_of_the_tool_servers_spells_values_as_python_does_and_nothing_else(action: str, sent: str) -> None:
    assert DIALECTS["sheet"].write_action(action) == f"Action: {sent}"


PLAIN = st.text(alphabet="ab ,.'\"\u2028\\{}", min_size=1).map(str.strip).filter(bool)


@given(PLAIN, PLAIN, st.integers())
def test_the_text_of_a_call_is_read_as_that_call_and_written_alike(object: str, container: str, times: int) -> None:
    box = Toolbox([put, switch], lines=False)
    call = Call("put", {"object": object, "container": container, "times": times})
    assert box.call(box.text(call)) == call


@given(name=st.sampled_from(["lamp", "big lamp"]), on=st.booleans())
def test_choices_and_truth_values_stand_in_a_text_as_json_writes_them(name: Any, on: bool) -> None:
    box = Toolbox([put, switch])
    text = box.text(Call("switch", {"name": name, "on": on}))
    assert text == f"switch {name} {json.dumps(on)}"
    assert box.call(text) == Call("switch", {"name": name, "on": on})
    assert box.call("switch lamp perhaps").tool == "act"


@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n"])
def test_a_line_break_within_an_action_of_one_line_is_refused_and_around_an_argument_is_nothing(mark: str) -> None:
    box = Toolbox([put], lines=False)
    with pytest.raises(MalformedAction, match="'object' of put holds a line break, but an action here is one line"):
        box.text(Call("put", {"object": f"a{mark}b", "container": "c", "times": 1}))
    call = Call("put", {"object": f"{mark}a {mark}", "container": "c", "times": 1})
    assert box.text(call) == "put a into c 1 times"
    assert box.checked(call).arguments["object"] == "a"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("build", "Your action is not a call of a function: write it as build with Action Input: {"),
        ("bild with Action Input: {}", "There is no function 'bild'; did you mean 'build'?"),
        ('build with Action Input: {"name": 1}', "build needs the argument 'count'."),
        ('build with Action Input: {"name": "a" "b"}', "Your JSON cannot be read: a comma is missing"),
        ('build with Action Input: {"name": "a", "name": "b"}', "holds 'name' twice"),
    ],
)
def test_a_text_that_is_not_a_call_is_corrected_where_calls_are_taken(text: str, words: str) -> None:
    with pytest.raises(MalformedAction) as malformed:
        OF_CALLS.call(text)
    assert words in str(malformed.value)


def test_where_calls_are_taken_a_text_is_read_for_what_it_means() -> None:
    text = (
        "build with Action Input: "
        + "{'name': 'a', 'count': 1, 'weight': 2, 'firm': True, 'way': 3, "
        + ("'whole': {'parts': [], 'made': False},}")
    )
    assert OF_CALLS.call(text).arguments == BUILT | {"weight": 2, "whole": {"parts": [], "made": False}}
    assert "act" not in OF_CALLS.names


def test_react_reads_the_call_of_an_environment_that_takes_calls() -> None:
    spec = replace(get_spec("weather"), takes_calls=True)
    parsed = format_for("react", spec).parse(
        'Why.\nAction: get_elevation\nAction Input: {"latitude": "1", longitude: 2}'
    )
    assert parsed.calls == (Call("get_elevation", {"latitude": 1, "longitude": 2}),)
    assert parsed.action == 'get_elevation with Action Input: {"latitude": 1, "longitude": 2}'
    assert format_for("react", get_spec("weather")).parse(f"Action: {parsed.action}").calls == ()


class Stall:
    """Sells three things; takes calls."""

    def reset(self, index: int) -> str:
        self.sold: list[str] = []
        return f"Buy {index} pears."

    @tool
    def buy(self, item: str, count: int = 1, way: Literal["cash", "card"] = "cash") -> Step:
        """buys something"""
        self.sold += [item] * count
        return Step(f"{count} {item}, {way}.", len(self.sold), len(self.sold) >= 3)

    def step(self, action: Call) -> Step:
        return STALL.run(action, self)

    def available_actions(self) -> list[str]:
        return [STALL.text(Call("buy", {"item": "pear"}))]

    def close(self) -> None: ...


def buyer(stall: Stall) -> Iterator[tuple[str, Call]]:
    yield "One.", Call("buy", {"item": "a\npear", "way": "card"})
    yield "Two.", Call("buy", {"item": "pear", "count": 2})


STALL = Toolbox(tools_of(Stall), calls=True)
card("stall", make=Stall, expert=buyer, tools=tools_of(Stall), takes_calls=True)


@pytest.mark.parametrize("format", FORMATS)
def test_an_environment_that_takes_calls_is_played_in_every_format(format: str) -> None:
    tasks = [Task("stall", 2)]
    (played,) = play(tasks, ExpertPolicy(), format=format)
    assert (played.stop, played.score, played.error) == (StopReason.DONE, 3, None)
    assert [turn.observation for turn in played.turns] == ["1 a\npear, card.", "2 pear, cash."]
    assert [turn.calls for turn in played.turns] == [(call,) for _, call in buyer(Stall())]
    for available in (False, True):
        (played,) = play(tasks, RandomPolicy(available=available), format=format)
        assert played.error is None
        assert all(turn.calls for turn in played.turns)
