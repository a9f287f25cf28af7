"""What is known of Movie, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.movie.tools import TOOLS
from envpool.spec import EnvSpec, Writing
from envpool.splits import by_fives
from envpool.tool_servers import GOAL, TOOL_SERVER, instructions_of

_TASKS = range(238)

SPEC = EnvSpec(
    name="movie",
    version="1",
    summary="answer questions about films and people from a film database",
    instructions=instructions_of(
        TOOLS,
        "You answer a question about films and the people who make them, from a film database.",
        'get_search_movie with Action Input: {"movie_name": "Metropolis"}',
    ),
    brief="Answer the question about films.",
    tools=TOOLS,
    max_turns=12,
    deterministic=False,  # the film database is a web service
    writing=Writing(lines=False),
    success_above=0.99,
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(**TOOL_SERVER, tasks=_TASKS),
    goal=GOAL,
    collection="tool",
)
