"""What AgentGym's tool servers (Academia, Movie, Sheet, TODOList, Weather) have in common.

All read ``NAME with Action Input: {...}`` on one line. They give the braces to Python's `eval`, so run them only where
a model's text can do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envpool.calls import Toolbox
from envpool.dialects import Literals
from envpool.spec import goal_after
from envpool.tools import Tool, tool

TOOL_SERVER: Mapping[str, Any] = {
    "session": "env_idx",
    "create": {"id": 0},  # names a task, but `/reset` chooses another
    "created": None,
    "index": "id",
    "first": None,
    "action": "Action: {}",
    "literals": Literals.PYTHON,
}
"""The arguments of their `Dialect`."""

GOAL = goal_after(r"(?s)accomplish the goal: (.+?)\s*(?:\nGive me one action|\Z)")
"""Finds what is asked for in their first observations."""

_INSTRUCTIONS = """\
{what} The first observation states the goal. You work with tools, one a turn. An action names a tool and gives its \
arguments as a JSON object, on one line:

NAME with Action Input: {{"argument": value, ...}}

For example: {example}. A tool without arguments is given {{}}. Leave out arguments that you do not need. The \
tools and their arguments are:
{tools}

{end}"""

_END = "As soon as you know the answer or have done what was asked, call finish; it ends the episode."


def instructions_of(tools: Sequence[Tool], what: str, example: str, end: str = _END) -> str:
    """What a model is told before the first observation.

    Args:
        tools: the tools of the environment.
        what: what it is to do, in a sentence.
        example: an action.
        end: what there is to know about the end.
    """
    signatures = Toolbox(tools).signatures.rpartition("\n")[0]  # all but `act`
    return _INSTRUCTIONS.format(what=what, example=example, tools=signatures, end=end)


@tool
def finish(answer: str | float | list[Any]) -> None:
    """ends the task with the answer, and with nothing but the answer"""


@tool
def check_valid_actions() -> None:
    """lists the tools"""


@tool
def get_user_current_date() -> None:
    """today, as YYYY-MM-DD"""


@tool
def get_user_current_location() -> None:
    """the city of the user"""
