"""What is known of WebArena, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.webarena.tools import TOOLS
from envpool.spec import Alone, EnvSpec, Writing, goal_after
from envpool.splits import by_fives

_TASKS = range(812)

INSTRUCTIONS = """\
You use a web browser to do what you are asked to. The first line of the first observation is the request. \
Observations list the open tabs and show the page as a tree, one element a line, each with a number in brackets.

An action is one line, in one of these forms:
- click [id], hover [id]: click an element, or move the mouse over it
- type [id] [text] [1]: type into a field and press Enter; [0] at the end does not press it
- press [keys]: press keys, as in press [Ctrl+v]
- scroll [down], scroll [up]
- new_tab, close_tab, tab_focus [index]: open, close and choose tabs
- goto [url], go_back, go_forward: move between pages
- stop [answer]: end the task. Give the answer if the request asks for one; stop [N/A] says that it cannot be done

For example: type [164] [green tea] [1]. The numbers of the elements change with the page: use those of the last \
observation. http://homepage.com lists the sites there are."""

SPEC = EnvSpec(
    name="webarena",
    version="1",
    summary="do tasks on real web sites in a browser",
    instructions=INSTRUCTIONS,
    brief="Do the task in the browser.",
    tools=TOOLS,
    writing=Writing(lines=False, alone=Alone.FENCE),
    max_turns=25,
    deterministic=False,  # pages load as fast as they load, and the sites keep what was done to them
    success_above=0.99,
    make=None,
    tasks=by_fives(_TASKS),
    dialect=Dialect(
        session="env_idx",
        created="env_idx",
        index="idx",
        reset={"seed": 0},
        first=("object", "observation"),
        verdict="terminated",  # before that, every action that could be carried out is paid
        done=("terminated", "truncated"),
        action="```{}```",
        trouble={"info": None, "object": "Error"},
        harmless="Cannot parse",
        closes=True,
        at_once=2,  # a session is a browser
        tasks=_TASKS,
    ),
    goal=goal_after(r"(.+)", first=True),
)
