"""What is known of Weather, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.weather.tools import TOOLS
from envpool.spec import EnvSpec, Writing
from envpool.splits import by_fives
from envpool.tool_servers import GOAL, TOOL_SERVER, instructions_of

_TASKS = range(343)

SPEC = EnvSpec(
    name="weather",
    version="1",
    summary="answer questions about the weather of any day and place",
    instructions=instructions_of(
        TOOLS,
        "You answer a question about the weather, past, present or to come.",
        'get_latitude_longitude with Action Input: {"name": "Oslo"}',
    ),
    brief="Answer the question about the weather.",
    tools=TOOLS,
    max_turns=10,
    deterministic=False,  # the weather is from a web service
    writing=Writing(lines=False),
    success_above=0.99,
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(**TOOL_SERVER, tasks=_TASKS),
    goal=GOAL,
    collection="tool",
)
