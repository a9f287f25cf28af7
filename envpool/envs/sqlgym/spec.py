"""What is known of SQLGym, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.sqlgym.tools import TOOLS
from envpool.spec import Alone, EnvSpec, Writing
from envpool.splits import eval_from

_TASKS = range(10_962)

INSTRUCTIONS = """\
You answer a question about a database with one SQL query. The first observation describes the tables and their \
columns, and asks the question.

Your action is the query itself, in the dialect of SQLite. For example: SELECT name FROM customer WHERE city = 'Oslo'. \
There is only one try. It is right if the query returns the same rows as the right one, so select just what is asked \
for."""

SPEC = EnvSpec(
    name="sqlgym",
    version="1",
    summary="answer a question about a database with one SQL query",
    instructions=INSTRUCTIONS,
    brief="Write the query.",
    tools=TOOLS,
    writing=Writing(begins=r"[A-Za-z(]|--|/\*", alone=Alone.FENCE),
    max_turns=1,
    success_above=0.99,
    make=None,
    tasks=eval_from(9428, _TASKS),
    dialect=Dialect(
        session="env_idx",
        created=None,
        index="item_id",
        first=0,
        observation="state",
        sessions=8,
        tasks=_TASKS,
    ),
)
