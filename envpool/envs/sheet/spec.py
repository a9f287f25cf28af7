"""What is known of Sheet, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.sheet.tools import TOOLS
from envpool.spec import EnvSpec, Writing
from envpool.splits import eval_only
from envpool.tool_servers import GOAL, TOOL_SERVER, instructions_of

_TASKS = range(20)

SPEC = EnvSpec(
    name="sheet",
    version="1",
    summary="edit a spreadsheet as asked",
    instructions=instructions_of(
        TOOLS,
        "You edit a spreadsheet until it is as the goal asks for.",
        'open_sheet with Action Input: {"name": "Sheet1"}',
        "Open the sheet that the goal names and look at all of it first. Rows and columns count from 1. When the "
        "sheet is as it should be, call finish. Any action in which the word finish occurs ends the episode.",
    ),
    brief="Edit the sheet.",
    tools=TOOLS,
    max_turns=15,
    deterministic=False,  # the sheets are in a web service
    writing=Writing(lines=False),
    success_above=0.99,
    make=None,
    tasks=eval_only(_TASKS),
    dialect=Dialect(**TOOL_SERVER, tasks=_TASKS),
    goal=GOAL,
    collection="tool",
)
