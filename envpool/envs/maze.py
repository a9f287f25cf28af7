"""Maze: find the goal by walking, seeing only the walls around you.

Tasks 0 to 25 are those of LMRL-Gym's maze (arXiv 2311.18232) in AgentGym's numbering (arXiv 2406.04151): one start
cell each in the double-T maze, maze 0 here. Task ``26 + LAYOUTS * p + k - 1`` is pair number p of seeded maze k: a
start and a goal 2 to 12 moves apart. Mazes have different numbers of pairs, so some indices name no task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from envpool.errors import UnknownTask
from envpool.spec import EnvSpec, Facts, Tool, Writing
from envpool.types import Split, Step

INSTRUCTIONS = """\
You are in a maze and want to reach the goal in as few moves as you can. Cells are written as row,column: rows are \
counted from the top and columns from the left, so a move down adds 1 to the row and a move right adds 1 to the column.

Before each move you are told the cell of the goal, the cell you are in, and on which sides of it there are walls. If \
you are told the number of the maze as well, that is its name: the same number is always the same maze. You never see \
a map.

The actions are: move up, move down, move left, move right. Moving into a wall leaves you where you are and costs a \
move. The game ends when you step onto the goal."""

BRIEF = "Maze: walk to the goal."

Cell = tuple[int, int]

MOVES: Mapping[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Direction to change of (row, column); the order settles ties."""

LAYOUTS = 60
"""How many seeded mazes there are."""

UNSEEN = range(51, LAYOUTS + 1)
"""The seeded mazes that only appear in the split eval."""

DISTANCES = range(2, 13)
"""Moves between start and goal of a task in a seeded maze; 12 is the longest way of the original tasks."""

_DOUBLE_T = """\
#############
#.....#.....#
###.#####.###
###.#####.###
###.#####.###
###.......###
######.######
######.######
######.######
#############"""

_ORIGINAL_GOAL: Cell = (8, 6)

_ORIGINAL_STARTS: Sequence[Cell] = (
    *((1, column) for column in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11)),
    *((2, 3), (3, 3), (4, 3), (5, 3), (5, 4), (5, 5), (5, 6), (6, 6), (7, 6)),
    *((5, 7), (5, 8), (5, 9), (4, 9), (3, 9), (2, 9), (8, 6)),
)


@dataclass(frozen=True)
class Layout:
    """A maze: from each cell, the directions that are open and where they lead."""

    number: int
    size: int
    exits: Mapping[Cell, Mapping[str, Cell]]

    def distances(self, goal: Cell) -> Mapping[Cell, int]:
        """Returns from each cell the number of moves to `goal` on a shortest way."""
        distances = {goal: 0}
        reached = [goal]
        for cell in reached:
            for neighbour in self.exits[cell].values():
                if neighbour not in distances:
                    distances[neighbour] = distances[cell] + 1
                    reached.append(neighbour)
        return distances


@dataclass(frozen=True, slots=True)
class Walk:
    """What a task index stands for."""

    layout: int
    start: Cell
    goal: Cell
    distance: int


def _order(*of: object) -> bytes:
    # hashes order things at random, but alike under every version of Python
    return hashlib.sha256(" ".join(map(str, of)).encode()).digest()


def _layout(number: int, size: int, passages: Sequence[tuple[Cell, Cell]]) -> Layout:
    exits: dict[Cell, dict[str, Cell]] = {cell: {} for passage in passages for cell in passage}
    for one, other in passages:
        for here, there in ((one, other), (other, one)):
            change = (there[0] - here[0], there[1] - here[1])
            direction = next(name for name, delta in MOVES.items() if delta == change)
            exits[here][direction] = there
    return Layout(number, size, exits)


def _neighbours(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    known = set(cells)
    pairs = [(cell, beside) for cell in cells for beside in ((cell[0] + 1, cell[1]), (cell[0], cell[1] + 1))]
    return [pair for pair in pairs if pair[1] in known]


@cache
def layout(number: int) -> Layout:
    """Builds maze `number`: 0 is the double T, k >= 1 a seeded maze of size 4 to 9.

    A seeded maze is a random spanning tree (Kruskal's algorithm over walls in random order) with ``size // 2`` more
    walls opened, so that there are several ways.
    """
    if number == 0:
        rows = _DOUBLE_T.splitlines()
        cells = [(r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark == "."]
        return _layout(0, len(rows), _neighbours(cells))
    size = 4 + (number - 1) % 6
    cells = [(row, column) for row in range(1, size + 1) for column in range(1, size + 1)]
    region = {cell: {cell} for cell in cells}
    passages, walls = [], []
    for one, other in sorted(_neighbours(cells), key=lambda pair: _order("maze", number, *pair)):
        if region[one] is region[other]:
            walls.append((one, other))
            continue
        passages.append((one, other))
        region[one] |= region[other]
        for cell in region[other]:
            region[cell] = region[one]
    return _layout(number, size, passages + walls[: size // 2])


@cache
def _walks(number: int) -> Sequence[Walk]:
    exits = layout(number).exits
    walks = [
        Walk(number, start, goal, distance)
        for goal in exits
        for start, distance in layout(number).distances(goal).items()
        if distance in DISTANCES
    ]
    return sorted(walks, key=lambda walk: _order("pair", number, walk.start, walk.goal))


def walk(index: int) -> Walk:
    """Returns what task `index` stands for.

    Raises:
        UnknownTask: the index names no task.
    """
    if 0 <= index < len(_ORIGINAL_STARTS):
        start = _ORIGINAL_STARTS[index]
        return Walk(0, start, _ORIGINAL_GOAL, layout(0).distances(_ORIGINAL_GOAL)[start])
    pair, number = divmod(index - len(_ORIGINAL_STARTS), LAYOUTS)
    if pair < 0 or pair >= len(_walks(number + 1)):
        raise UnknownTask(f"maze has no task {index}: take one of SPEC.tasks(split), or 0 to 25 for the original maze")
    return _walks(number + 1)[pair]


@cache
def _tasks(split: Split) -> Sequence[int]:
    # The original starts are AgentEval's test, except the last, which stands on the goal.
    found = list(range(len(_ORIGINAL_STARTS) - 1)) if split == Split.EVAL else []
    for number in range(1, LAYOUTS + 1):
        first = len(_ORIGINAL_STARTS) + number - 1
        found += [first + LAYOUTS * pair for pair in range(len(_walks(number))) if _split(number, pair) == split]
    return tuple(sorted(found))


def _split(number: int, pair: int) -> Split:
    if number in UNSEEN or pair % 10 >= 8:
        return Split.EVAL
    return Split.TRAIN if pair % 10 < 2 else Split.EXPLORE


def _facts(index: int) -> Facts:
    task = walk(index)
    return {"layout": task.layout, "size": layout(task.layout).size, "distance": task.distance}


def name_of(cell: Cell) -> str:
    """Writes a cell as ``8,6``: row, column."""
    return f"{cell[0]},{cell[1]}"


class Maze:
    """One walk through a maze.

    Attributes:
        layout: the maze.
        goal: where to go.
        position: where the walker is.
    """

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, index: int) -> str:
        """Puts the walker at the start of task `index`.

        Raises:
            UnknownTask: the index names no task.
        """
        task = walk(index)
        self.layout = layout(task.layout)
        self.goal = task.goal
        self.position = task.start
        self._done = False
        return self._look()

    def step(self, action: str) -> Step:
        """Moves the walker one cell, unless there is a wall."""
        verb, _, direction = " ".join(action.lower().split()).partition(" ")
        if self._done:
            return Step("The walk is over: you are at the goal.", 1.0, True)
        if verb != "move" or direction not in MOVES:
            return Step(
                f"Unknown action. Take one of: {', '.join(self.available_actions())}. {self._look()}", 0.0, False
            )
        self.position = self.layout.exits[self.position].get(direction, self.position)
        self._done = self.position == self.goal
        return Step("Success.", 1.0, True) if self._done else Step(self._look(), 0.0, False)

    def available_actions(self) -> Sequence[str]:
        """The four moves."""
        return [f"move {direction}" for direction in MOVES]

    def close(self) -> None:
        """Nothing to free."""

    def _look(self) -> str:
        walls = ", ".join(direction for direction in MOVES if direction not in self.layout.exits[self.position])
        here, goal = name_of(self.position), name_of(self.goal)
        return f"Maze {self.layout.number}. Goal {goal}. You are at {here}. Walls: {walls or 'none'}."


def expert(maze: Maze) -> Iterator[tuple[str, str]]:
    """Walks a shortest way; among equally short ones the first direction in `MOVES` wins."""
    distances = maze.layout.distances(maze.goal)
    while True:
        exits = maze.layout.exits[maze.position]
        direction = min((d for d in MOVES if d in exits), key=lambda d: distances[exits[d]])
        yield f"From {name_of(maze.position)} to {name_of(maze.goal)}: {direction}.", f"move {direction}"


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
    inline=True,
    writing=Writing(signs="", lines=False),
    tools=(Tool("move", "move {direction}", "moves one cell: up, down, left or right"),),
)
