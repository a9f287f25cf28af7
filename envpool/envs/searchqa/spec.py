"""What is known of SearchQA, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.searchqa.tools import TOOLS
from envpool.spec import Alone, EnvSpec, Writing, goal_after
from envpool.splits import eval_to

_TASKS = range(221_328)

INSTRUCTIONS = """\
You answer a question and may look things up in Wikipedia first. The first observation asks the question.

An action is one line, in one of these two forms:
- <search>query</search>: shows the passages that fit the query best
- <answer>answer</answer>: gives the answer, in as few words as it takes

For example: <search>capital of Peru</search>, then <answer>Lima</answer>. An answer must match word for word; you are \
told if it is wrong and may try again."""

SPEC = EnvSpec(
    name="searchqa",
    version="1",
    summary="answer questions with the help of a search in Wikipedia",
    instructions=INSTRUCTIONS,
    brief="Answer the question.",
    tools=TOOLS,
    writing=Writing(alone=Alone.TAGS),
    max_turns=30,  # as AgentGym-RL evaluates; it trains with 5
    success_above=0.99,
    make=None,
    tasks=eval_to(51_713, _TASKS),
    dialect=Dialect(
        session="env_idx",
        create={"id": 0},
        created=None,
        index="id",
        first=None,
        closes=True,
        tasks=_TASKS,
    ),
    goal=goal_after(r"Question: (.+)"),
    item_ids=r"(?P<type>nq|triviaqa|popqa|hotpotqa|2wikimultihopqa|musique|bamboogle)_.+",
)
