"""What is known of ScienceWorld, which lives behind a server only."""

from __future__ import annotations

import re

from envpool.dialects import Dialect
from envpool.envs.sciworld.tools import TOOLS
from envpool.spec import EnvSpec, Writing, goal_after
from envpool.splits import by_fives

_TASKS = range(4_639)

INSTRUCTIONS = """\
You are in a small world of rooms where science can be done, and have to carry out the task that the first observation \
describes. Tasks ask for things such as boiling a substance, growing a plant or finding out what conducts electricity.

An action is one line. These are the forms, with things and places named as the observations name them:
{forms}
For example: use thermometer on water. Where a name is not clear you are asked which one you mean; answer with the \
number alone. "No known action matches that input." means that the form or the name is wrong.

The score goes from 0 to 100 and rises as parts of the task are done in their order. Focus only on what the task tells \
you to focus on: focusing on anything else ends the episode with -100."""


def _form(text: str) -> str:
    return re.sub(r"{([a-z]+)}", r"<\1>", text)


FORMS = "\n".join(f"- {_form(tool.text)}: {tool.summary}" for tool in TOOLS)

SPEC = EnvSpec(
    name="sciworld",
    version="1",
    summary="carry out science tasks of primary school in a world of rooms",
    instructions=INSTRUCTIONS.format(forms=FORMS),
    brief="Do the science task.",
    tools=TOOLS,
    writing=Writing(signs="(),-", lines=False),
    max_turns=30,
    success_above=99.0,
    score_range=(-100.0, 100.0),
    metric="score",
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(
        first=("task_description", "observation"),
        score="score",  # `reward` is what the last action added
        closes=True,
        at_once=2,  # a session is a Java machine of its own
        tasks=_TASKS,
    ),
    goal=goal_after(r"(Your task is to .+)"),
)
