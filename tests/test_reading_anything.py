"""Any text is read or corrected, any action survives, and reading takes no more steps than the text has parts."""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from known import EMBEDDED, SERVED

from envpool import MalformedAction, get_spec
from envpool.formats import FORMATS, format_for

ALL = sorted([*EMBEDDED, *SERVED])

PARTS = st.sampled_from(
    [
        *(
            "go",
            "to",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\r\n",
            "'",
            '"',
            "`",
            "```",
            "````\n",
            "\n````",
            "~",
            "**",
            "[",
            "]",
            "{",
        ),
        *("}", "<think>", "</think>", "[THINK]", "[/THINK]", "Action:", "\nAction: ", "Action Input: {", "Thought:"),
        *(
            "\nObservation: ",
            "SELECT a",
            ";",
            ".",
            "\\",
            "\\n",
            "</s>",
            "<|im_end|>",
            "<search>",
            "</search>",
            "#",
            "é",
        ),
        *("click[", "\u2028", "\x85", "1. ", "- ", "<|channel|>final<|message|>", "A sentence.", ", ", "move up"),
    ]
)
TEXTS = st.lists(PARTS, max_size=12).map("".join)


@pytest.mark.parametrize("key", FORMATS)
@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=40)
@given(thought=TEXTS, action=TEXTS.map(str.strip).filter(bool))
@example(thought="</think>", action="say </think> now")
@example(thought="<think>", action="say <think> now")
@example(thought="Action: a", action="a\nAction: b")
@example(thought="", action="a\n\nb")
@example(thought="", action="```\na\n```")
def test_any_action_survives_in_every_environment(name, key, thought, action):
    format = format_for(key, get_spec(name))
    assert format.parse(format.render(thought, action)).action == action


@pytest.mark.parametrize("key", FORMATS)
@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=40)
@given(text=TEXTS)
def test_any_answer_is_read_or_corrected(name, key, text):
    format = format_for(key, get_spec(name))
    action = trouble = ""
    try:
        action = format.parse(text).action
    except MalformedAction as malformed:
        trouble = str(malformed)
    assert bool(action) != bool(trouble)
    assert action == action.strip()
    assert len(trouble) < 1000


def steps(format, text):
    """Counts the functions that reading calls, which no load on the machine changes."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with suppress(MalformedAction):
            format.parse(text)
    finally:
        sys.setprofile(None)
    return counted


UNITS = [
    *(
        "a\n",
        "- a\n",
        "\n",
        "</think>",
        "<think>",
        "Action:\n",
        "Action: a\n",
        "</think>Action: a\n",
        "`",
        "```",
        "```\n",
    ),
    *(
        "````\n",
        "Action:\n````\n",
        "**",
        "'",
        '"',
        "\\",
        "{'a':",
        "{'a' b} ",
        "{a: b} ",
        "{'a':'b',",
        "''",
        "{a:1,",
        "[",
        "/*",
    ),
    *(
        "<search>",
        "<search>a</search>",
        "click[a]\n",
        "move up\n",
        "] [",
        "take a from ",
        "</s>",
        "toggle()\n",
        "A b.\n\n",
    ),
]
BEFORE = [
    "",
    "Action: ",
    "Action:\n```\n",
    "<think>",
    "Thought: </think>",
    '{"name": "act", "arguments": {"a": ',
    "{'a': '",
]


@pytest.mark.parametrize("key", FORMATS)
@pytest.mark.parametrize("name", ["babyai", "searchqa", "sqlgym", "weather", "webarena", "webshop"])
def test_the_steps_of_reading_grow_no_faster_than_the_answer(name, key):
    format = format_for(key, get_spec(name))
    for before, unit in product(BEFORE, UNITS):
        small, large = (before + unit * (size // len(unit)) for size in (2_000, 8_000))
        assert steps(format, large) < 5 * steps(format, small) + 4_000, (before, unit)
