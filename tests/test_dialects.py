from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known import DIALECTS, EMBEDDED, SERVED

from envpool import UnknownEnvironment, get_spec
from envpool.dialects import PLAIN, Complained, Unreadable

KEYS = st.sampled_from(
    [
        *("id", "env_idx", "observation", "state", "reward", "score", "done", "terminated", "truncated"),
        *("info", "object", "error", "task_description", "available_actions"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS | st.text(), parts, max_size=8),
    max_leaves=12,
)
ALL = [*DIALECTS.values(), PLAIN]


@given(st.sampled_from(ALL), ANYTHING)
def test_an_answer_is_read_or_unreadable_and_nothing_else(dialect, answer):
    for read in (dialect.read_created, dialect.read_first, dialect.read_step):
        complaint = ""
        try:
            assert read(answer) is not None
        except Unreadable as error:
            complaint = str(error)
        assert "\n" not in complaint
        assert len(complaint) < 200


@given(st.sampled_from(ALL), st.text(), st.floats(-1e6, 1e6), st.booleans())
def test_a_good_answer_is_read_as_it_is(dialect, observation, score, done):
    answer = {dialect.observation: observation, "reward": score, "score": score}
    answer |= dict.fromkeys(dialect.done, done)
    if dialect.actions:
        answer[dialect.actions] = ["look", "wait"]
    step = dialect.read_step(answer)
    assert step.observation.startswith(observation)
    assert step.done is done
    assert step.score == (0.0 if dialect.verdict and not done else score)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 10**400, "1", None, [1]])
def test_a_score_that_is_no_number_is_never_one(score):
    with pytest.raises(Unreadable):
        DIALECTS["textcraft"].read_step({"observation": "", "reward": score, "done": False})


def test_errors_under_http_200_are_errors():
    for dialect in ALL:
        with pytest.raises(Complained, match="not valid"):
            dialect.read_step({"error": "The id 7 is not valid."})
    webarena = DIALECTS["webarena"]
    said = {"reward": 0, "terminated": False, "truncated": False, "info": None}
    with pytest.raises(Complained, match="7"):
        webarena.read_step({**said, "observation": "7"})
    assert webarena.read_step({**said, "observation": "Cannot parse action"}).score == 0
    with pytest.raises(Complained, match="TimeoutError"):
        webarena.read_first({"object": "Error", "observation": "TimeoutError", "sites": "Error"})


def test_webarena_pays_for_the_verdict_only():
    paid = {"observation": "ok", "reward": 1.0, "truncated": False, "info": {}}
    assert DIALECTS["webarena"].read_step({**paid, "terminated": False}).score == 0
    assert DIALECTS["webarena"].read_step({**paid, "terminated": True}).score == 1


@pytest.mark.parametrize(
    ("name", "action", "sent"),
    [
        ("babyai", "pick up red ball 1", "pickup red ball 1"),
        ("babyai", "go to red ball 1", "go to red ball 1"),
        ("babyai", "toggle and go through red locked door 1", "toggle and go through red locked door 1"),
        ("weather", "finish with Action Input: {}", "Action: finish with Action Input: {}"),
        ("webarena", "click [1]", "```click [1]```"),
        ("textcraft", "get 1 {} \\1", "get 1 {} \\1"),
    ],
)
def test_an_action_is_sent_as_the_original_server_spells_it_and_read_back(name, action, sent):
    dialect = DIALECTS[name]
    assert dialect.write_action(action) == sent
    assert dialect.read_action(sent) == action
    assert dialect.read_action(action) == action


def test_possible_actions_are_a_list_or_what_the_dialect_offers():
    assert DIALECTS["maze"].read_available(["move up"]) == ["move up"]
    assert DIALECTS["babyai"].read_available(["pickup red ball 1", "drop"]) == ["pick up red ball 1", "drop"]
    start = {"has_search_bar": True, "clickables": ["search"]}
    assert DIALECTS["webshop"].read_available(start) == ["search[shirt]", "click[search]"]
    product = {"has_search_bar": False, "clickables": ["back to search", "large"]}
    assert DIALECTS["webshop"].read_available(product) == ["click[back to search]", "click[large]"]


@pytest.mark.parametrize("answer", [{}, {"has_search_bar": True}, {"has_search_bar": 1, "clickables": [2]}, "a", [1]])
def test_possible_actions_of_another_shape_are_unreadable(answer):
    for name in ("webshop", "maze"):
        with pytest.raises(Unreadable):
            DIALECTS[name].read_available(answer)


def test_every_environment_of_agentgym_has_a_dialect():
    assert set(DIALECTS) == {*EMBEDDED, *SERVED}
    with pytest.raises(UnknownEnvironment, match="did you mean 'webshop'"):
        get_spec("webshp")
