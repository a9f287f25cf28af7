"""How an action is found in what a model wrote: labels, decoration, further lines, private thoughts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from known import EMBEDDED, SERVED

from envpool import EnvPoolError, EnvSpec, MalformedAction, get_spec, tool
from envpool.formats import REACT, format_for
from envpool.spec import Alone, Writing

ALL = sorted([*EMBEDDED, *SERVED])
SHARED = Path(__file__).parents[1].parent / "shared" / "data"

ACTIONS = {
    "academia": 'paperNodeCheck with Action Input: {"node": "A. B: \\"C\\""}',
    "alfworld": "put mug 1 in/on desk 2",
    "babyai": "toggle and go through red locked door 1",
    "maze": "move up",
    "movie": 'get_movie_cast with Action Input: {"movie_id": "934433"}',
    "sciworld": "use thermometer on water",
    "searchqa": '<search>who\'s "it"? </search>',
    "sheet": "get_all_values with Action Input: {}",
    "sqlgym": "SELECT `a b`, \"c\" FROM [t] WHERE d = 'x.'",
    "textcraft": "craft 1 stick using 2 oak planks, 1 string",
    "todo": 'get_tasks with Action Input: {"project_id": "2203"}',
    "weather": 'finish with Action Input: {"answer": -0.1}',
    "webarena": 'type [164] [A sentence. "Quoted", `ticked` and **bold**.] [1]',
    "webshop": "search[red [cotton]  shirt, 'large']",
    "wordle": "p a n i c",
}
"""One action of every environment, with all the signs that may be part of it."""


def react(name):
    return format_for("react", get_spec(name))


def correction(format, text):
    with pytest.raises(MalformedAction) as malformed:
        format.parse(text)
    assert "\n" not in str(malformed.value)
    return str(malformed.value)


def test_every_environment_has_an_example():
    assert sorted(ACTIONS) == ALL


DECORATED = [
    "Action: {}",
    "Action:\n{}",
    "Action:\n\n{}\n",
    "**Action:** {}",
    "**Action**: {}",
    "**Action: {}**",
    "### Action: {}",
    "### Action\n{}",
    "**Action**\n\n{}",
    "- **Action:** {}",
    "2. Action: {}",
    "Action 1: {}",
    "action: {}",
    "ACTION: {}",
    "> Action: {}",
    "Action\uff1a {}",
    "_Action:_ {}",
    "Thought: I go on. Action: {}",
    "**Thought:** I go on. **Action:** {}",
    'The form is "Action: x", so:\nAction: {}',
    "> Action: x\nis what I must not do.\nAction: {}",
    "Action: `{}`",
    "Action:`{}`",
    "Action: **{}**",
    "Action: *{}*",
    "Action:\n```\n{}\n```",
    "Action: ```{}```",
    "Action: ```text\n{}\n```\nThis is why.",
    "```\nThought: a\nAction: {}\n```",
    "Action: {}</s>",
    "Action: {}\n<|im_end|>",
    "Action: {}\nObservation: You did it.",
    "Action: {}\n\nThis brings me nearer to the goal.",
    "<think>\nMaybe\nAction: wait\nno\n</think>\n\nThought: x\nAction: {}",
    "Maybe\nAction: wait\nno\n</think>\n\nThought: x\nAction: {}",
    "<think>Action: a</think>\n<think>Action: b</think>Action: {}",
    "[THINK]Action: wait[/THINK]Action: {}",
    "<seed:think>Action: wait</seed:think>Action: {}",
    "◁think▷Action: wait◁/think▷Action: {}",
    "<|channel|>analysis<|message|>Action: wait<|end|><|channel|>final<|message|>Action: {}<|return|>",
]


@pytest.mark.parametrize("written", DECORATED)
@pytest.mark.parametrize("name", ALL)
def test_what_is_around_an_action_is_no_part_of_it(name, written):
    parsed = react(name).parse(written.replace("{}", ACTIONS[name]))
    assert parsed.action == ACTIONS[name]
    assert "Action: wait" not in parsed.thought
    assert "think" not in parsed.thought.lower()


@pytest.mark.parametrize("written", [form for form in DECORATED if "Action: {}**" not in form])
def test_an_environment_of_which_nothing_is_known_keeps_all_but_markdown_around_an_action(written):
    action = "say: 'a', [b]. \"c\""
    assert REACT.parse(written.replace("{}", action)).action == action
    assert REACT.parse(f"Action: '{action}'.").action == f"'{action}'."


NOT_OF_ALL = ["{}.", '"{}"', "'{}'", "[{}]", "({})", "<{}>", "- {}", "1. {}", "{},", "\u201c{}\u201d", "`{}`."]


@pytest.mark.parametrize("written", NOT_OF_ALL)
@pytest.mark.parametrize("name", [name for name in ALL if name not in ("sciworld", "sqlgym")])
def test_signs_that_no_action_has_at_its_ends_are_taken_off(name, written):
    if name in ("textcraft", "babyai") and written == "{},":
        return  # commas are signs of their actions
    assert react(name).parse(f"Action: {written.replace('{}', ACTIONS[name])}").action == ACTIONS[name]


@pytest.mark.parametrize("written", ["{}.", '"{}"', "'{}'", "[{}]", "<{}>", "`{}`.", "1. {}"])
def test_signs_that_no_action_of_sciworld_has_are_taken_off(written):
    written = written.replace("{}", "look at water (in metal pot)")
    assert react("sciworld").parse(f"Action: {written}").action == "look at water (in metal pot)"


@pytest.mark.parametrize("written", ['"{}"', "'{}'", "[{}]", "- {}", "\u201c{}\u201d"])
def test_signs_that_no_query_begins_with_are_taken_off(written):
    assert react("sqlgym").parse(f"Action: {written.replace('{}', 'SELECT 1')}").action == "SELECT 1"


@pytest.mark.parametrize(
    ("name", "written", "action"),
    [
        ("textcraft", "get  2   oak logs", "get 2 oak logs"),
        ("textcraft", "**get** [2] `oak logs`", "get 2 oak logs"),
        ("babyai", "go to *red ball 1*", "go to red ball 1"),
        ("alfworld", "put [mug 1] in/on [desk 2]", "put mug 1 in/on desk 2"),
        ("wordle", "p-a-n-i-c", "panic"),
        ("webshop", "click[Buy Now]", "click[Buy Now]"),
        ("webshop", "click[a.b.] ", "click[a.b.]"),
        ("webarena", "stop []", "stop []"),
        ("sqlgym", "SELECT 1.", "SELECT 1."),
        ("sqlgym", "```SELECT 1```", "SELECT 1"),
        ("sqlgym", "```sql SELECT 1;\n```", "SELECT 1;"),
        ("sqlgym", "```SQL SELECT 1```", "SELECT 1"),
        ("weather", 'finish\nAction Input:\n```json\n{"answer": 1}\n```', 'finish with Action Input: {"answer": 1}'),
        ("sqlgym", "`SELECT `a` FROM t`", "SELECT `a` FROM t"),
        ("sqlgym", "SELECT a -- why\nFROM t", "SELECT a -- why\nFROM t"),
        ("sqlgym", "SELECT 1;\n\nthat counts", "SELECT 1;"),
        ("sqlgym", "```sql\nSELECT a\n\nFROM t\n```", "SELECT a\n\nFROM t"),
        (
            "weather",
            'finish with Action Input: {\n  "answer": "a\nb"\n}',
            'finish with Action Input: { "answer": "a\\nb" }',
        ),
        ("weather", 'finish\nAction Input: {"answer": 1}', 'finish with Action Input: {"answer": 1}'),
        (
            "weather",
            'finish\n**Action Input:**\n{"answer":\n1}\nObservation: x',
            'finish with Action Input: {"answer": 1}',
        ),
        ("weather", "finish with Action Input: {'answer': 'it}'}", "finish with Action Input: {'answer': 'it}'}"),
        ("weather", 'finish with Action Input: {"answer":\n"}"} ', 'finish with Action Input: {"answer": "}"}'),
        ("webshop", "click[a]\nThis buys it.", "click[a]"),
        ("webshop", "click[a]\nwhich buys it", "click[a]"),
        ("textcraft", "inventory\nI want to know what I hold.", "inventory"),
        ("webarena", "type [1] [say </think> now] [1]", "type [1] [say </think> now] [1]"),
        ("webarena", "stop [<think>]", "stop [<think>]"),
    ],
)
def test_what_an_environment_takes_survives(name, written, action):
    assert react(name).parse(f"Thought: x\nAction: {written}").action == action


@pytest.mark.parametrize(
    ("name", "written", "action"),
    [
        ("searchqa", "<think>Who?\n<search>no</search></think>\n<search>Peru</search>", "<search>Peru</search>"),
        ("searchqa", "It is clear.\n<answer>\nLima\n</answer>", "<answer>\nLima\n</answer>"),
        ("searchqa", "Action: I look it up: <search>a</search>", "<search>a</search>"),
        ("searchqa", "<search>what is </think></search>", "<search>what is </think></search>"),
        ("webarena", "In summary, the next action is ```click [1]```", "click [1]"),
        ("webarena", "I go.\n```\nstop [N/A]\n```\nDone.", "stop [N/A]"),
        ("webarena", "The page shows ```[1] link 'x'```, so ```click [1]```", "click [1]"),
        ("webshop", "search[red shirt]", "search[red shirt]"),
        ("webshop", "I look.\n\n**click[buy now]**", "click[buy now]"),
        ("webshop", "<think>\nclick[a]\n</think>\nclick[b]", "click[b]"),
        ("sqlgym", "I count.\n```sql\nSELECT count(*)\nFROM t\n```", "SELECT count(*)\nFROM t"),
    ],
)  # fmt: skip
def test_the_official_answer_form_needs_no_label(name, written, action):
    assert react(name).parse(written).action == action


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("maze", "Action: move up\nAction: move left", "2 lines of your answer start with 'Action:'"),
        ("maze", "I could take Action: move up or Action: move left", "2 lines of your answer start"),
        ("maze", "Action: move up\nmove left", "one action at a time: below your action you wrote 'move left'"),
        ("maze", "Action: move up\n\nMove left.", "one action at a time"),
        ("maze", "Action: move up\nand then down", "below it you wrote 'and then down'"),
        ("maze", "Action: move up\n\nthen left", "Give one action, on one line."),
        ("maze", "Action: ```\nmove up\nmove left\n```", "one action at a time"),
        ("maze", "Action: ```\nmove up\n```\n```\nmove left\n```", "several blocks of code"),
        ("webarena", "Action: type [1] [Dear Sir,\nI write.\nBye] [1]", "goes on below its line, with 'I write.'"),
        ("webarena", "Action: click [1] click [2]", "one action at a time: you wrote 'click [1] click [2]'"),
        ("webarena", "```click [1] and click [2]```", "one action at a time"),
        ("webshop", "Action: search[red\nShirt.", "goes on below its line"),
        ("maze", "Action: ```\nmove up\n```\nmove left", "below your action you wrote 'move left'"),
        ("maze", "Action: ```\nmove up", "does not end: close it with ```"),
        ("maze", "Action: move up\nAction Input: {}", "takes no 'Action Input:'"),
        ("maze", "Action: ...", "No action found"),
        ("maze", "Action:", "No action found"),
        ("maze", "**Action:** ** **", "No action found"),
        ("maze", "<think>\nAction: move up", "your private thoughts do not end"),
        ("maze", "<think>\nAction: move up\nAction: move left", "your private thoughts do not end"),
        ("maze", "<think>I go. Action: move up</think>", "No action found"),
        ("maze", "I go. Action: move up</think>", "No action found"),
        ("maze", "Action: move up\n</think>\nI go up.", "below it you wrote '</think>'"),
        ("maze", "Action:\n<think>hm</think>\nmove up", "No action found"),
        ("maze", "move up", "No action found"),
        ("webshop", "I must not click[a] yet.", "No action found"),
        ("webshop", "click[a]\nclick[b]", "one action at a time: your answer holds 2"),
        ("webarena", "```click [1]``` and ```click [2]```", "one action at a time: your answer holds 2"),
        ("webarena", "click [1]", "No action found"),
        ("searchqa", "<search>a</search><answer>b</answer>", "one action at a time: your answer holds 2"),
        ("searchqa", "<search>a", "Your action does not end: write <search>...</search>."),
        ("sqlgym", "Action: SELECT a\n\nFROM t", "Put all of it into a block of code."),
        ("sqlgym", "```sql\nSELECT 1\n```\n```sql\nSELECT 2\n```", "your answer holds 2"),
        ("weather", 'Action: finish with Action Input: {\n"answer": "x"', "JSON object does not end"),
        ("weather", 'Action: finish with Action Input: {"answer": "x', "JSON object does not end"),
        ("weather", "Action: get_elevation\nAction Input: Oslo", "Give the Action Input as a JSON object"),
    ],
)
def test_what_is_not_clear_is_answered_with_words_that_name_the_mistake(name, written, words):
    assert words in correction(react(name), written)


def test_nothing_of_a_call_on_several_lines_is_left_away_where_nothing_is_known():
    call = 'get_latitude_longitude with Action Input: {{{0}"name": "Oslo"{0}}}'
    assert REACT.parse(f"Action: {call.format(chr(10))}").action == call.format(" ")
    assert REACT.parse('Action: f\nAction Input: {"name": "Oslo"}').action == 'f with Action Input: {"name": "Oslo"}'
    assert REACT.parse("Action:\nfirst\n  second").action == "first\n  second"


@tool("{number}")
def guess(number: int) -> None: ...


@tool("say {**}")
def say(words: str) -> None: ...


def test_tools_of_an_environment_of_ones_own_show_what_decoration_is():
    spec = EnvSpec(
        **dict.fromkeys(("name", "version", "summary", "instructions", "brief"), "x"),
        make=lambda: None, tasks=lambda split: (), max_turns=1, success_above=0.5,
        tools=(guess, say),
    )  # fmt: skip
    format = format_for("react", spec)
    for text, action in (("**50**.", "50"), ("[50]", "50"), ('"say {"words": "."}"', 'say {"words": "."}')):
        assert format.parse(f"Action: {text}").action == action
    assert format.parse('Action: "something else"').action == '"something else"'


def test_signs_of_the_language_are_letters():
    strict = format_for("react", get_spec("maze"))
    assert strict.parse("Action: ir al café ☕").action == "ir al café"
    assert Writing().signs is None


@pytest.mark.parametrize("alone", ["line", Alone.LINE])
def test_the_answer_form_of_an_environment_may_be_text(alone):
    format = format_for("react", replace(get_spec("webshop"), writing=Writing(alone=alone)))
    assert format.parse("I look for it.\nsearch[red]").action == "search[red]"


def test_an_unknown_answer_form_is_refused_where_the_card_is_made():
    with pytest.raises(EnvPoolError, match="alone='lines' is not one of line, fence, tags; did you mean 'line'"):
        Writing(alone="lines")


@pytest.mark.parametrize("name", ALL)
def test_the_usual_form_is_written_as_ever(name):
    assert react(name).render("Why.", ACTIONS[name]) == f"Thought:\nWhy.\n\nAction:\n{ACTIONS[name]}"


def recorded():
    for file in sorted(SHARED.glob("*_train_sample.json")):
        for record in json.loads(file.read_text(encoding="utf-8")):
            for message in record["conversations"]:
                if message["from"] == "gpt" and "Action:" in message["value"]:
                    yield file.name.removeprefix("lmrlgym_").split("_")[0], message["value"]


def test_recorded_answers_are_read_as_they_were_sent():
    """Where two actions stand below each other, AgentGym's server was sent both and recognised none."""
    answers = list(recorded())
    if not answers:
        pytest.skip("the samples of real data are not here")
    several = []
    for name, answer in answers:
        below = answer.rsplit("Action:", 1)[1].strip()
        try:
            assert react(name).parse(answer).action == below
        except MalformedAction:
            several.append(below)
    assert all("\n" in action for action in several)
    assert len(several) == 4


CHANGED = [
    "get 1.5 stick",
    "get -1 stick",
    "get 1/2 stick",
    "get 1-2 stick",
    "get 2_0 stick",
    "get +2 stick",
    "get .5 stick",
]


@pytest.mark.parametrize("written", CHANGED)
def test_signs_are_not_taken_off_where_that_makes_another_number(written):
    assert "Numbers in an action are whole and without signs" in correction(react("textcraft"), f"Action: {written}")


@pytest.mark.parametrize("written", ["get (2) stick.", "get #2 `stick`", "1. get 2 stick", "get 2 *stick*!"])
def test_signs_that_leave_a_number_as_it_is_are_taken_off(written):
    assert react("textcraft").parse(f"Action: {written}").action == "get 2 stick"


OSLO = 'get_latitude_longitude with Action Input: {"name": "Oslo"}'


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(("webshop", f"search[red shirt]{gap}click[buy now]") for gap in ("", " ", ", ", "; ", " and ", ", then ")),
        ("weather", f"{OSLO} {OSLO}"),
        ("weather", f"{OSLO} and then {OSLO}"),
        ("weather", f'{OSLO}\nAction Input: {{"name": "Rome"}}'),
        ("weather", 'get_latitude_longitude\nAction Input: {"name": "Oslo"}\nAction Input: {"name": "Rome"}'),
    ],
)
def test_two_calls_beside_each_other_are_two_actions(name, written):
    assert "Give one action at a time" in correction(react(name), f"Action: {written}")


@pytest.mark.parametrize("name", ["get_latitude_longitude", "`get_latitude_longitude`,", "**get_latitude_longitude**"])
@pytest.mark.parametrize("label", ["Action Input:", "action input :", "**Action Input:**"])
def test_a_call_on_one_line_needs_no_with(name, label):
    assert react("weather").parse(f'Action: {name} {label} {{"name": "Oslo"}}').action == OSLO


@pytest.mark.parametrize(
    ("name", "written", "form"),
    [
        ("webshop", "search[red shirt", "search[...]"),
        ("webshop", "click[buy", "click[...]"),
        ("webarena", "type [1] [half", "type [...]"),
    ],
)
def test_half_of_a_call_is_not_sent(name, written, form):
    assert f"Write your action as {form}" in correction(react(name), f"Action: {written}")


def test_brackets_within_a_call_are_part_of_it():
    for action in ("search[red [big] shirt]", "search[a] b]", "search[search]"):
        assert react("webshop").parse(f"Action: {action}").action == action
