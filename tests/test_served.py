from __future__ import annotations

import json
from itertools import chain

import pytest
from known import DIALECTS, EMBEDDED, SERVED

from envpool import Call, EnvPoolError, Split, get_spec
from envpool.calls import Toolbox
from envpool.formats import FORMATS, format_for

SPECS = {name: get_spec(name) for name in SERVED}
NAMES = sorted(SPECS)
TOOL_SERVERS = ("academia", "movie", "sheet", "todo", "weather")


def test_every_dialect_has_a_card():
    assert set(SPECS) | set(EMBEDDED) == set(DIALECTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_complete(name):
    spec = SPECS[name]
    assert spec.name == name
    assert spec.version == "1"
    assert spec.served
    assert spec.expert is None
    assert len(spec.instructions) > 300
    assert "  " not in spec.instructions
    assert len(spec.summary) < 80
    assert "\n" not in spec.brief
    assert not spec.success(spec.initial_score)
    assert spec.success(spec.score_range[1])
    assert spec.score_range[0] <= spec.initial_score <= spec.score_range[1]


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_behind_a_server_is_not_made_here(name):
    with pytest.raises(EnvPoolError, match=rf"{name} runs behind a server only: .* environments\.{name}\.endpoints="):
        SPECS[name].build()


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_task_and_stay_within_what_the_server_knows(name):
    splits = {split: list(SPECS[name].tasks(split)) for split in Split}
    assert splits[Split.EVAL]
    assert all(tasks == sorted(tasks) for tasks in splits.values())
    assert sorted(chain(*splits.values())) == list(DIALECTS[name].tasks)


@pytest.mark.parametrize(
    ("name", "index", "split"),
    [
        ("alfworld", 2415, Split.TRAIN),
        ("alfworld", 2419, Split.EXPLORE),
        ("alfworld", 2420, Split.EVAL),
        ("sqlgym", 9427, Split.EXPLORE),
        ("sqlgym", 9428, Split.EVAL),
        ("searchqa", 51_712, Split.EVAL),
        ("searchqa", 51_713, Split.EXPLORE),
        ("academia", 0, Split.EVAL),
        ("webshop", 5, Split.TRAIN),
        ("webshop", 8, Split.EXPLORE),
        ("webshop", 9, Split.EVAL),
    ],
)
def test_the_splits_follow_the_original_numbers(name, index, split):
    assert index in SPECS[name].tasks(split)


def test_tasks_are_drawn():
    assert len(SPECS["searchqa"].select("eval", 400)) == 400


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        *((name, "with Action Input: {") for name in TOOL_SERVERS),
        ("alfworld", "put <object> in/on <place>"),
        ("sciworld", "use <object> on <target>"),
        ("searchqa", "<answer>"),
        ("sqlgym", "SELECT"),
        ("webarena", "stop [answer]"),
        ("webshop", "click[<label>]"),
    ],
)
def test_instructions_say_how_an_action_is_written(name, syntax):
    assert syntax in SPECS[name].instructions
    assert ("one line" in SPECS[name].instructions) is (name != "sqlgym")  # a query may have several


@pytest.mark.parametrize("name", TOOL_SERVERS)
def test_instructions_of_the_tool_servers_name_every_tool_and_hold_a_call_of_one(name):
    spec = SPECS[name]
    assert all(f"- {tool.name}(" in spec.instructions for tool in spec.tools)
    example = spec.instructions.split("For example: ")[1].split("}")[0] + "}"
    call = Toolbox(spec.tools).call(example)
    assert call.tool in {tool.name for tool in spec.tools}
    assert json.loads(example.split("Input: ")[1]) == call.arguments


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", FORMATS)
def test_every_format_is_made_for_every_card(name, key):
    format = format_for(key, SPECS[name])
    assert format.instructions
    assert format.parse(format.render("Why.", "some action")).action == "some action"


@pytest.mark.parametrize(
    ("name", "action", "tool"),
    [
        ("alfworld", "take mug 1 from desk 2", "take"),
        ("alfworld", "put mug 1 in/on desk 2", "put"),
        ("alfworld", "look", "look"),
        ("sciworld", "use thermometer on water", "use_on"),
        ("sciworld", "use stove", "use"),
        ("sciworld", "look around", "look_around"),
        ("sciworld", "wait1", "wait_one"),
        ("sciworld", "0", "choose"),
        ("searchqa", "<search>capital of Peru</search>", "search"),
        ("searchqa", "<answer>Lima</answer>", "answer"),
        ("sqlgym", "SELECT count(*) FROM customer WHERE city = 'Oslo'", "query"),
        ("webarena", "click [12]", "click"),
        ("webarena", "type [164] [green tea] [1]", "type"),
        ("webarena", "stop []", "stop"),
        ("webarena", "go_back", "go_back"),
        ("webshop", "search[red [cotton] shirt]", "search"),
        ("webshop", "click[buy now]", "click"),
        ("sheet", "get_all_values with Action Input: {}", "get_all_values"),
        (
            "sheet",
            'update_range with Action Input: {"start_position": "A1", "end_position": "B1", "values_list": [["x"]]}',
            "update_range",
        ),
        (
            "sheet",
            'get_value_by_formula with Action Input: {"operator": "SUM", "position_list": ["D2", "F2"]}',
            "get_value_by_formula",
        ),
        ("weather", 'get_elevation with Action Input: {"latitude": 59.91, "longitude": -10}', "get_elevation"),
        ("weather", 'finish with Action Input: {"answer": -0.1}', "finish"),
        ("movie", 'get_movie_cast with Action Input: {"movie_id": "934433"}', "get_movie_cast"),
        ("todo", 'update_project with Action Input: {"project_id": "1", "is_favorite": "True"}', "update_project"),
        ("academia", "loadPaperNet with Action Input: {}", "loadPaperNet"),
    ],
)
def test_actions_are_calls_of_the_tools(name, action, tool):
    assert Toolbox(SPECS[name].tools).call(action).tool == tool
    for key in FORMATS:
        format = format_for(key, SPECS[name])
        assert format.parse(format.render("Why.", action)).action == action


def test_a_number_is_written_as_text_where_a_text_is_wanted():
    call = Call("get_movie_cast", {"movie_id": 934433})
    assert Toolbox.of(get_spec("movie")).text(call) == 'get_movie_cast with Action Input: {"movie_id": "934433"}'
