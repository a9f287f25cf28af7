"""What is known of Maze: what a model is told, its splits, and its card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from envpool.dialects import Dialect
from envpool.envs.maze.expert import expert
from envpool.envs.maze.tools import TOOLS
from envpool.envs.maze.world import LAYOUTS, ORIGINAL_STARTS, Maze, layout, walk, walks
from envpool.spec import EnvSpec, Facts, Place, Writing
from envpool.types import Split

INSTRUCTIONS = """\
You are in a maze and want to reach the goal in as few moves as you can. Cells are written as row,column: rows are \
counted from the top and columns from the left, so a move down adds 1 to the row and a move right adds 1 to the column.

Before each move you are told the cell of the goal, the cell you are in, and on which sides of it there are walls. If \
you are told the number of the maze as well, that is its name: the same number is always the same maze. You never see \
a map.

The actions are: move up, move down, move left, move right. Moving into a wall leaves you where you are and costs a \
move. The game ends when you step onto the goal."""

BRIEF = "Maze: walk to the goal."

UNSEEN = range(51, LAYOUTS + 1)
"""The seeded mazes that only appear in the split eval."""

_HERE = re.compile(r"Maze (\d+)\. Goal (\d+),(\d+)\. You are at (\d+),(\d+)\.")
_ORIGINAL = re.compile(r"The goal is at position (\d+), (\d+)\. Your current position is at position (\d+), (\d+)\.")


@cache
def _tasks(split: Split) -> Sequence[int]:
    # The original starts are AgentEval's test, except the last, which stands on the goal.
    found = list(range(len(ORIGINAL_STARTS) - 1)) if split == Split.EVAL else []
    for number in range(1, LAYOUTS + 1):
        first = len(ORIGINAL_STARTS) + number - 1
        found += [first + LAYOUTS * pair for pair in range(len(walks(number))) if _split(number, pair) == split]
    return tuple(sorted(found))


def _split(number: int, pair: int) -> Split:
    if number in UNSEEN or pair % 10 >= 8:
        return Split.EVAL
    return Split.TRAIN if pair % 10 < 2 else Split.EXPLORE


def _facts(index: int) -> Facts:
    task = walk(index)
    return {"layout": task.layout, "size": layout(task.layout).size, "distance": task.distance}


def _goal(observation: str) -> str:
    if here := _HERE.search(observation):
        number, goal, start = int(here[1]), f"{here[2]},{here[3]}", f"{here[4]},{here[5]}"
    elif original := _ORIGINAL.findall(observation):
        row, column, own_row, own_column = original[-1]
        number, goal, start = 0, f"{row},{column}", f"{own_row},{own_column}"
    else:
        return " ".join(observation.split())
    return f"walk from {start} to {goal} in maze {number}"


SPEC = EnvSpec(
    name="maze",
    version="1",
    summary="walk to a goal in a maze, seeing only the walls around you",
    instructions=INSTRUCTIONS,
    brief=BRIEF,
    make=Maze,
    tasks=_tasks,
    facts=_facts,
    max_turns=15,
    success_above=0.99,
    task_type="size",
    expert=expert,
    place=Place.INLINE,
    writing=Writing(signs="", lines=False),
    tools=TOOLS,
    dialect=Dialect(base="/maze", index="game", tasks=range(len(ORIGINAL_STARTS))),
    goal=_goal,
    difficulty="distance",
    collection="lmrlgym",
)
