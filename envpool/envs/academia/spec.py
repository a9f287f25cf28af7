"""What is known of Academia, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.academia.tools import TOOLS
from envpool.spec import EnvSpec, Writing
from envpool.splits import eval_only
from envpool.tool_servers import GOAL, TOOL_SERVER, instructions_of

_TASKS = range(20)

SPEC = EnvSpec(
    name="academia",
    version="1",
    summary="answer questions about papers and authors from two graphs",
    instructions=instructions_of(
        TOOLS,
        "You answer a question about scientific papers and their authors, from two graphs.",
        'paperNodeCheck with Action Input: {"node": "Attention Is All You Need"}',
    ),
    brief="Answer the question about papers.",
    tools=TOOLS,
    max_turns=12,
    writing=Writing(lines=False),
    success_above=0.99,
    make=None,
    tasks=eval_only(_TASKS),
    dialect=Dialect(**TOOL_SERVER, tasks=_TASKS),
    goal=GOAL,
    collection="tool",
)
