from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from known import EMBEDDED

from envpool import EnvPoolError, MalformedAction, Split, get_spec, tool
from envpool.calls import Toolbox
from envpool.formats import FORMATS, REACT, CodeAsAction, FunctionCalling, format_for


@tool("go to {object}")
def go_to(object: str) -> None:
    """walks there"""


@tool("go to room {room}")
def go_to_room(room: int) -> None: ...


@tool("toggle")
def toggle() -> None: ...


@tool("toggle and go through {door}")
def toggle_and_go_through(door: str) -> None: ...


@tool("put {object} into {container}")
def put(object: str, container: str) -> None: ...


@tool
def find(
    query: str, most: int = ..., near: float = ..., tags: list[Any] = ..., also: str | float | list[Any] = ...
) -> None: ...


TOOLS = Toolbox([go_to, go_to_room, toggle, toggle_and_go_through, put, find])
CALLING = FunctionCalling(TOOLS)
CODE = CodeAsAction(TOOLS)
CALLS = (CALLING, CODE)
OF_ALL = [REACT, *CALLS]

ACTIONS = st.text().map(lambda text: " ".join(text.split())).filter(bool)
"""One line, not empty, no space around it."""


def called(name, **arguments):
    return json.dumps({"name": name, "arguments": arguments})


def correction(format, text):
    with pytest.raises(MalformedAction) as malformed:
        format.parse(text)
    return str(malformed.value)


@pytest.mark.parametrize("format", CALLS, ids=lambda format: format.name)
@pytest.mark.parametrize(
    ("action", "tool"),
    [
        ("go to red ball 1", "go_to"),
        ("go to room 12", "go_to_room"),
        ("go to room twelve", "go_to"),
        ("toggle", "toggle"),
        ("toggle and go through grey door 1", "toggle_and_go_through"),
        ("put 'it' into the \"box\"", "put"),
        ('find with Action Input: {"query": "caf\u00e9 \U0001f600", "near": 31.22222, "tags": [["a", 2]]}', "find"),
        ('find with Action Input: {"query":"other spaces"}', "act"),
        ('find with Action Input: {"most": 1}', "act"),
        ('find with Action Input: {"query": "a", "near": NaN}', "act"),
        ("go to room 007", "go_to"),
        ("jump", "act"),
        ("put a into ``` b </think> c", "put"),
        ("say # hello", "act"),
    ],
)
def test_an_action_is_written_as_a_call_of_the_tool_that_fits_it_best(format, action, tool):
    text = format.render("I think\nso: ```\n</think>", action)
    assert format.parse(text).action == action
    assert f"{tool}(" in text or f'"name": "{tool}"' in text


def test_a_call_reads_as_written_in_the_instructions():
    assert json.loads(CALLING.render("Why.", "go to room 3")) == {
        "thought": "Why.",
        "name": "go_to_room",
        "arguments": {"room": 3},
    }
    assert CODE.render("Why.\nNow.", "go to x") == "```python\n# Why.\n# Now.\ngo_to(object='x')\n```"


@pytest.mark.parametrize(
    "text",
    [
        '{"thought": "Why.", "name": "go_to", "arguments": {"object": "x"}}',
        '{"thought": "Why.", "function_name": "go_to", "arguments": {"object": "x"}}',
        '{"thought": "Why.", "function": {"name": "go_to", "arguments": {"object": "x"}}}',
        '{"thought": "Why.", "function": {"name": "go_to", "arguments": "{\\"object\\": \\"x\\"}"}}',
        '{"thought": "Why.", "function": "go_to", "parameters": {"object": "x"}}',
        'Why.\n{"name": "go_to", "arguments": "{\\"object\\": \\"x\\"}"}\nThat is all.',
        'Why.\n\n```json\n{\n  "name": "go_to",\n  "arguments": {"object": "x"}\n}\n```',
        'Why.\n<tool_call>\n{"name": "go_to", "arguments": {"object": "x"}}\n</tool_call>',
        'Why.\n{"tool_calls": [{"id": "1", "type": "function", '
        '"function": {"name": "go_to", "arguments": "{\\"object\\": \\"x\\"}"}}]}',
        'Why.\n[{"name": "go_to", "arguments": {"object": "x"}}]',
        '<think>{"name": "toggle"}</think>\nWhy. {"name": "go_to", "arguments": {"object": "x"}}',
        'Why.\n{"name": "go_to", "arguments": {"object": "\n x\n"}}',
        'Why.\n{"name": "go_to", "arguments": {"object": "x",},}',
        "Why.\n{'name': 'go_to', 'arguments': {'object': 'x'}}",
        "Why.\n{'name': 'go_to', 'arguments': {'object': 'x'}, 'strict': True, 'note': None}",
        'Why.\n{name: "go_to", arguments: {object: "x"}}',
        'Why.\n{"name": "go_to", // there\n"arguments": {"object": "x"}}',
        'Why.\n{"name": "go_to", "arguments": "{\'object\': \'x\',}"}',
        '{"name": "toggle"}</think>\nWhy. {"name": "go_to", "arguments": {"object": "x"}}',
        '[THINK]{"name": "toggle"}[/THINK]Why. {"name": "go_to", "arguments": {"object": "x"}}</s>',
        '<thinking>{"name": "a"</thinking>Why. {"name": "go_to", "arguments": {"object": "x"}}',
        '{"thought": "Why. </think>", "name": "go_to", "arguments": {"object": "x"}}',
    ],
)
def test_function_calling_reads_the_shapes_that_models_write(text):
    parsed = CALLING.parse(text)
    assert parsed.action == "go to x"
    assert parsed.thought.startswith("Why.")


@pytest.mark.parametrize(
    "text",
    [
        "Why.\n```python\ngo_to(object='x')\n```",
        "```python\n# Why.\ngo_to('x')\n```\nThat is all.",
        "# Why.\ngo_to('x')",
        "Why.\n\ngo_to('x')",
        "Why.\n```\ngo_to(\n    object='x',  # this\n)",
        "Why.\n`go_to('x')`",
        "Why.\n```py\ngo_to('''\nx''')```",
        "<think>```python\ntoggle()\n```</think>Why.\n```python\ngo_to('x')\n```",
        "toggle()</think>Why.\ngo_to('x')",
        "<thought>\ntoggle()\n</thought>\nWhy.\n```\ngo_to('x')\n```<|im_end|>",
    ],
)
def test_code_is_read_in_a_fence_or_bare(text):
    parsed = CODE.parse(text)
    assert parsed.action == "go to x"
    assert parsed.thought == "Why."


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("put('a', container='b')", "put a into b"),
        ("go_to(5)", "go to 5"),
        ("go_to(-2.5)", "go to -2.5"),
        ("go_to_room(room=7)", "go to room 7"),
        ("go_to('two\\nlines')", "go to two\nlines"),
        ("find('two\\nlines\u2028')", 'find with Action Input: {"query": "two\\nlines\\u2028"}'),
        ("go_to_room('7')", "go to room 7"),
        ("go_to_room(7.0)", "go to room 7"),
        (
            "find(1, tags=['a', (2,)], also='\\d')",
            'find with Action Input: {"query": "1", "tags": ["a", [2]], "also": "\\\\d"}',
        ),
        ("act('anything at all')", "anything at all"),
    ],
)
def test_arguments_are_written_as_the_template_says(code, action):
    assert CODE.parse(code).action == action


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("go to x", "No function call found"),
        ('{"a": 1}', "No function call found"),
        (called("goto", object="x"), "no function 'goto'; did you mean 'go_to'? The functions are: go_to"),
        (called("go_to"), "go_to needs the argument 'object'. Call it as go_to(object: str)."),
        (called("go_to", objct="x"), "no argument 'objct'; did you mean 'object'?"),
        (called("go_to", object=["x"]), "The argument 'object' of go_to is a list, not a text."),
        (called("go_to", object=None), "is nothing, not a text"),
        (called("go_to_room", room="two"), "The argument 'room' of go_to_room is 'two', not a whole number."),
        (called("go_to_room", room=True), "is True, not a whole number"),
        (called("go_to", object=True), "The argument 'object' of go_to is True, not a text."),
        (called("go_to", object="two\ud800"), "holds half a character, '\\ud800': write the whole one"),
        (called("find", query="a", tags="b"), "The argument 'tags' of find is 'b', not a list."),
        (called("find", query="a", also={}), "is an object, not a text, a number or a list."),
        ('{"name": "toggle" "arguments": {}}', "Your JSON cannot be read: a comma is missing, near"),
        ('{"name": "go_to", "arguments": {"object": red ball}}', "write names and texts in double quotes"),
        ('{"name": "go_to", "arguments": {"object": "a "b" c"}}', "a comma is missing"),
        ('{"name": "go_to", "arguments": {"object": "x"]}', "']' closes nothing"),
        ('{"name": "go_to", "arguments": "{\\"object\\": x}"}', "write names and texts in double quotes"),
        ("{\u201cname\u201d: \u201ctoggle\u201d}", "write names and texts in double quotes"),
        ('<think>{"name": "toggle", "arguments": {}}', "your private thoughts do not end"),
        ('{"name": "toggle", "arguments": {}}</think>Hm.', "No function call found"),
        (called("find", query="a", near="x"), "not a number"),
        (called("act", action=" \n"), "makes no action"),
        ('{"name": "go_to", "arguments": ["x"]}', "must be a JSON object"),
        ('{"name": "go_to", "arguments": "x"}', "must be a JSON object"),
        ('{"name": 5, "arguments": {}}', "has no name"),
        ('{"tool_calls": [7]}', "has no name"),
        (called("toggle") * 2, "your answer holds 2"),
        ('{"name": "go_to", "arguments": {"object": "x', "does not end"),
        ('{"name": "go_to", "arguments": {"object": "x"}', "does not end"),
        ('{"name": "go_to_room", "arguments": {"room": %s}}' % ("9" * 5000), "too many digits"),
        ('{"name": "go_to_room", "arguments": {"room": 1e999}}', "is inf, not a whole number"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"name": "go_to", "arguments": "%s"}' % ("[" * 100_000), "must be a JSON object"),
    ],
)
def test_function_calling_answers_a_mistake_with_a_correction(text, words):
    assert words in correction(CALLING, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "exactly one call"),
        ("I do not know what to do.", "No function call found"),
        ("x = go_to('y')", "exactly one call"),
        ("toggle(); toggle()", "exactly one call"),
        ("```\ntoggle()\n```\n```\ntoggle()\n```", "holds 2 blocks"),
        ("goto('x')", "did you mean 'go_to'?"),
        ("go_to()", "needs the argument 'object'"),
        ("go_to('x', 'y')", "Too many arguments: call it as go_to(object: str)."),
        ("put('a', 'b', 'c')", "Too many arguments"),
        ("go_to('x', object='y')", "once"),
        ("go_to(object='x', object='y')", "once"),
        ("go_to(**{'object': 'x'})", "once"),
        ("env.go_to('x')", "by its name alone"),
        ("go_to(open('secret').read())", "nothing is computed"),
        ("go_to(f'{1}')", "nothing is computed"),
        ("go_to(*['x'])", "nothing is computed"),
        ("go_to(None)", "is nothing, not a text"),
        ("go_to(nothing)", "nothing is computed"),
        ("find('a', tags=[{1: 2}])", "names in a dict"),
        ("go_to_room(0x%s)" % ("f" * 9000), "is too large a number"),
        ("go_to('x\0')", "cannot be read"),
        ("(" * 10_000, "cannot be read"),
        ("-" * 15_000 + "1", "cannot be read"),
        ("go_to(" * 3000, "cannot be read"),
        ("toggle()\ngo_to('x')", "your answer holds 2"),
        ("<think>toggle()", "your private thoughts do not end"),
        ("toggle()</think>Hm.", "No function call found"),
        ("go_to('%s')" % ("x" * 30_000), "at most 20000 characters"),
    ],
)
def test_code_answers_a_mistake_with_a_correction(text, words):
    assert words in correction(CODE, text)


def test_code_is_never_run(tmp_path):
    target = tmp_path / "touched"
    correction(CODE, f"go_to(open({str(target)!r}, 'w').write('x'))")
    correction(CODE, f"open({str(target)!r}, 'w')")
    assert not target.exists()


@pytest.mark.filterwarnings("error")
def test_odd_escapes_in_code_warn_nobody():
    assert CODE.parse(r"go_to('\d')").action == r"go to \d"


@pytest.mark.parametrize("format", OF_ALL, ids=lambda format: format.name)
@pytest.mark.parametrize(
    "unit",
    ["{", '{"', '{"a":', '{"a":[', "{ ", "```\n", "```", "(", "[", "\\", "# a\n", "\n", '{"name":"a"}', "{'a':"],
)
def test_a_giant_answer_is_judged(format, unit):
    assert correction(format, unit * (1_000_000 // len(unit)))


@pytest.mark.parametrize("tail", ["x" * 1_000_000, '"' + "x" * 1_000_000, "[" + "1," * 500_000 + "x"])
def test_a_nested_giant_is_judged(tail):
    assert correction(CALLING, '{"a":' * 500 + tail)


@pytest.mark.parametrize(
    ("format", "text", "action"),
    [
        (CALLING, '{"name":"act","arguments":{"action":"say </think> now"}}', "say </think> now"),
        (CALLING, '{"name":"act","arguments":{"action":"say <think> now"}}', "say <think> now"),
        (CALLING, '<think>\n</think>{"name":"act","arguments":{"action":"</thinking>"}}', "</thinking>"),
        (CALLING, """{'name':'act','arguments':{'action':'</think>{"name":"toggle"}'}}""", '</think>{"name":"toggle"}'),
        (CODE, "act(action='say </think> now')", "say </think> now"),
        (CODE, "toggle()</think>\n```python\nact('say [/THINK] now')\n```", "say [/THINK] now"),
        (CODE, "act('<think>')", "<think>"),
    ],
)
def test_a_tag_of_private_thoughts_in_an_argument_is_text(format, text, action):
    assert format.parse(text).action == action


def test_line_breaks_in_arguments_survive_where_an_action_may_have_several_lines():
    query = "SELECT a -- why\nFROM t"
    call = json.dumps({"name": "query", "arguments": {"sql": query}})
    assert format_for("function_calling", get_spec("sqlgym")).parse(call).action == query
    assert format_for("code_as_action", get_spec("sqlgym")).parse(f"query({query!r})").action == query
    call = json.dumps({"name": "type", "arguments": {"id": 1, "text": "two\nlines", "enter": 1}})
    words = "The argument 'text' of type holds a line break, but an action here is one line: write it without."
    assert words in correction(format_for("function_calling", get_spec("webarena")), call)
    call = json.dumps({"name": "update_note", "arguments": {"position": "A1", "content": "two\nlines"}})
    assert r'"two\nlines"' in format_for("function_calling", get_spec("sheet")).parse(call).action


ANYTHING = st.one_of(
    st.text(),
    st.text(alphabet="{}[]()\"'`,:# \n\\ag1"),
    st.from_regex(r"(go_to|find|act|put)\([^\n]{0,20}\)", fullmatch=True),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ).flatmap(
        lambda value: st.sampled_from(["name", "function", "function_name"]).map(
            lambda key: json.dumps({key: "find", "arguments": {"query": value, "also": value, "tags": value}})
        )
    ),
    st.dictionaries(st.sampled_from(["name", "function", "arguments", "tool_calls", "thought"]), st.text()).map(
        json.dumps
    ),
)


@pytest.mark.parametrize("format", OF_ALL, ids=lambda format: format.name)
@settings(deadline=None)
@given(text=ANYTHING)
@example(text='{"name": "go_to", "arguments": {"object": "\\ud800"}}')
@example(text="go_to('\\ud800')")
@example(text="go_to('\ud800')")
def test_no_answer_raises_anything_but_a_correction(format, text):
    trouble = action = ""
    try:
        action = format.parse(text).action
    except MalformedAction as malformed:
        trouble = str(malformed)
    assert bool(action) != bool(trouble)
    assert len(trouble) < 1000
    assert action == action.strip()
    if format is not REACT:  # it takes the action as it finds it
        assert action.encode("utf-8") is not None


@pytest.mark.parametrize("format", CALLS, ids=lambda format: format.name)
@settings(deadline=None)
@given(thought=st.text(), action=ACTIONS | ACTIONS.map("go to {}".format) | ACTIONS.map("put {0} into {0}".format))
@example(thought="", action="\x85a")
@example(thought="", action="find with Action Input: {}")
@example(thought="", action='find with Action Input: {"query": "\u2028"}')
@example(thought='{"name": "toggle"}</think>', action="go to '\"``` \\</think> \\n")
def test_every_one_line_action_survives(format, thought, action):
    action = " ".join(action.split())
    assert format.parse(format.render(thought, action)).action == action


@pytest.mark.parametrize("name", EMBEDDED)
def test_expert_actions_are_calls_of_the_tools(name):
    spec = get_spec(name)
    if spec.extra:
        pytest.importorskip("minigrid")
    formats = [format_for(key, spec) for key in FORMATS]
    toolbox = Toolbox(spec.tools)
    used = set()
    for task in spec.select("eval", 6):
        environment = spec.make()
        environment.reset(task.index)
        for _, (thought, action) in zip(range(spec.max_turns), spec.expert(environment), strict=False):
            for format in formats:
                assert format.parse(format.render(thought, action)).action == action
            used.add(toolbox.call(action).tool)
            if environment.step(action).done:
                break
        environment.close()
    assert used <= {tool.name for tool in spec.tools} - {"act"}


@pytest.mark.parametrize("name", EMBEDDED)
def test_actions_that_are_possible_are_calls_of_the_tools(name):
    spec = get_spec(name)
    if spec.extra:
        pytest.importorskip("minigrid")
    toolbox = Toolbox(spec.tools)
    environment = spec.make()
    environment.reset(spec.tasks(Split.EVAL)[0])
    for action in environment.available_actions()[:50]:
        assert toolbox.call(action).tool != "act"


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("key", ["function_calling", "code_as_action"])
def test_instructions_name_every_tool_and_hold_an_example_that_can_be_read(name, key):
    spec = get_spec(name)
    format = format_for(key, spec)
    assert format.name == key
    for called in [*(each.name for each in spec.tools), "act"]:
        assert f"- {called}(" in format.instructions
    last = format.instructions.split("is taken by:")[1]
    assert f'"{format.parse(last).action}" is taken by' in format.instructions


def test_toggle_and_toggle_and_go_through_are_told_apart():
    toolbox = Toolbox(get_spec("babyai").tools)
    assert toolbox.call("toggle").tool == "toggle"
    assert toolbox.call("toggle and go through red locked door 1").arguments == {"door": "red locked door 1"}
    assert toolbox.call("go through red open door 1").tool == "go_through"
    assert toolbox.call("go to red open door 1").tool == "go_to"


def test_a_format_is_found_by_its_name():
    assert list(FORMATS) == ["react", "function_calling", "code_as_action", "native"]
    assert format_for("react", get_spec("maze")).instructions == REACT.instructions
    with pytest.raises(EnvPoolError, match="unknown format 'function_caling'; did you mean 'function_calling'"):
        format_for("function_caling", get_spec("maze"))


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(3):\n    toggle()",
        "while True:\n\ttoggle()",
        "def act():\n    toggle()",
        "import os\ntoggle()",
        "x = 1\ntoggle()",
        "print(1)\ntoggle()",
        "I go on:\nfor n in range(3):\n    toggle()",
    ],
)
def test_a_call_that_is_a_part_of_other_code_is_not_taken_out_of_it(code):
    assert "exactly one call" in correction(CODE, code)


def test_words_before_a_call_are_a_thought_even_if_they_are_python():
    assert CODE.parse("Hm\ntoggle()").action == CODE.parse("toggle()").action


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('{"name": "go_to", "arguments": {"object": "a", "object": "b"}}', "holds 'object' twice"),
        ("{'name': 'go_to', 'arguments': {'object': 'a', 'object': 'b'}}", "holds 'object' twice"),
        ('{"name": "go_to", "arguments": {"object": "a"}, "arguments": {"object": "b"}}', "holds 'arguments' twice"),
        ('{"name": "go_to", "name": "toggle", "arguments": {}}', "holds 'name' twice"),
        ('{"name": "go_to", "arguments": {"object": "a"}, "parameters": {"object": "b"}}', "arguments of go_to once"),
    ],
)
def test_a_call_that_says_two_things_is_corrected(call, words):
    assert words in correction(CALLING, call)


def test_arguments_are_read_under_any_of_their_names():
    for key in ("arguments", "parameters", "input", "args", "kwargs"):
        assert CALLING.parse(f'{{"name": "go_to", "{key}": {{"object": "x"}}}}').action == "go to x"
