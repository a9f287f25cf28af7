"""What is known of WebShop, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.webshop.tools import TOOLS
from envpool.spec import Alone, EnvSpec, Writing, goal_after
from envpool.splits import by_fives

_TASKS = range(6_910)

INSTRUCTIONS = """\
You shop in a web shop for what the instruction in the first observation describes: a kind of product with certain \
properties and options, below a certain price. Observations show the page as text, its parts separated by [SEP].

There are two forms of action, each on one line:
- search[<keywords>]: searches the shop, from any page.
- click[<label>]: clicks a button, a product code or an option of the page, named as the page shows it.

For example: search[red cotton shirt], then click[b07xyz1234] to open a product, click[red] and click[large] to choose \
its options, and click[buy now]. Other buttons are "next >", "< prev", "back to search", "description", "features" and \
"reviews". Buying ends the episode; \
the score says how well the purchase fits, from 0 to 1."""

SPEC = EnvSpec(
    name="webshop",
    version="1",
    summary="find and buy a product in a web shop",
    instructions=INSTRUCTIONS,
    brief="Buy what is asked for.",
    tools=TOOLS,
    writing=Writing(lines=False, alone=Alone.LINE),
    max_turns=10,
    deterministic=False,  # some prices are drawn anew for every session
    success_above=0.99,
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(
        session="env_idx",
        created=None,
        index="session_id",
        first=0,
        observation="state",
        offers={"has_search_bar": "search[shirt]", "clickables": "click[{}]"},  # any word can be searched for
        sessions=8000,
        at_once=2,  # a session copies the whole catalogue
        tasks=_TASKS,
    ),
    goal=goal_after(r"(?s)Instruction:\s*(?:\[SEP\])?\s*(.+?)\s*(?:\[SEP\]|\Z)"),
)
