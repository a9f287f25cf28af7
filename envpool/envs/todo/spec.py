"""What is known of TODOList, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.todo.tools import TOOLS
from envpool.spec import EnvSpec, Writing
from envpool.splits import by_fives
from envpool.tool_servers import GOAL, TOOL_SERVER, instructions_of

_TASKS = range(155)

SPEC = EnvSpec(
    name="todo",
    version="1",
    summary="ask and change a list of things to do",
    instructions=instructions_of(
        TOOLS,
        "You answer a question about the user's lists of things to do, or change them as asked.",
        'get_tasks with Action Input: {"project_id": "2203"}',
    ),
    brief="Do the task with the to-do lists.",
    tools=TOOLS,
    max_turns=15,
    deterministic=False,  # the lists are in a web service
    writing=Writing(lines=False),
    success_above=0.99,
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(**TOOL_SERVER, tasks=_TASKS),
    goal=GOAL,
    collection="tool",
)
