"""Maze: find the goal by walking, seeing only the walls around you.

Tasks 0 to 25 are those of LMRL-Gym's maze (arXiv 2311.18232) in AgentGym's numbering (arXiv 2406.04151): one start
cell each in the double-T maze, maze 0 here. Task ``26 + LAYOUTS * p + k - 1`` is pair number p of seeded maze k: a
start and a goal 2 to 12 moves apart. Mazes have different numbers of pairs, so some indices name no task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from envpool.errors import UnknownTask
from envpool.types import Step

Cell = tuple[int, int]

MOVES: Mapping[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Direction to change of (row, column); the order settles ties."""

LAYOUTS = 60
"""How many seeded mazes there are."""

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

ORIGINAL_STARTS: Sequence[Cell] = (
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
def walks(number: int) -> Sequence[Walk]:
    """The tasks of a seeded maze, in the order of their pair numbers."""
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
    if 0 <= index < len(ORIGINAL_STARTS):
        start = ORIGINAL_STARTS[index]
        return Walk(0, start, _ORIGINAL_GOAL, layout(0).distances(_ORIGINAL_GOAL)[start])
    pair, number = divmod(index - len(ORIGINAL_STARTS), LAYOUTS)
    if pair < 0 or pair >= len(walks(number + 1)):
        raise UnknownTask(f"maze has no task {index}: take one of SPEC.tasks(split), or 0 to 25 for the original maze")
    return walks(number + 1)[pair]


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
