"""What the agent of BabyAI sees: objects with their places, free cells, and the ways between them.

Everything here is relative to the agent: steps ahead, steps to the right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

# minigrid's encoding of a cell of the view: (kind, colour, door state)
_UNSEEN, _EMPTY, _WALL, _DOOR = 0, 1, 2, 4
_KINDS = {_DOOR: "door", 5: "key", 6: "ball", 7: "box"}
_COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
_STATES = ("open", "closed", "locked")


class Move(IntEnum):
    """minigrid's primitive moves."""

    LEFT = 0
    RIGHT = 1
    FORWARD = 2
    PICKUP = 3
    DROP = 4
    TOGGLE = 5
    WAIT = 6


Pose = tuple[int, int, int]
"""Steps ahead, steps to the right, and quarter turns to the right, all relative to the agent."""

_START: Pose = (0, 0, 0)
_HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True, slots=True)
class Thing:
    """An object in view: its name, its number among those of that name, and its place relative to the agent."""

    name: str
    number: int
    ahead: int
    right: int

    @property
    def kind(self) -> str:
        """``door``, ``key``, ``ball`` or ``box``."""
        return self.name.rsplit(" ", 1)[-1]

    @property
    def label(self) -> str:
        """How actions name it, as in ``red ball 1``."""
        return f"{self.name} {self.number}"

    @property
    def place(self) -> str:
        """Where it is, as in ``2 ahead, 1 left``."""
        side = "right" if self.right > 0 else "left"
        parts = [f"{self.ahead} ahead"] * (self.ahead > 0) + [f"{abs(self.right)} {side}"] * (self.right != 0)
        return ", ".join(parts)


class View:
    """What the agent sees: minigrid's image read as objects and free cells around the agent.

    Args:
        image: cells of minigrid's view, indexed [column, row, (kind, colour, state)]; the agent looks up from the
            middle of the bottom row.
        carrying: the name of what the agent carries, or None.
    """

    def __init__(self, image: Any, carrying: str | None) -> None:
        columns = image.tolist()
        self._depth, self._middle = depth, middle = len(columns[0]) - 1, len(columns) // 2
        self.carrying = carrying
        self.cells: dict[tuple[int, int], tuple[int, int, int]] = {
            (depth - row, column - middle): tuple(cell)
            for column, cells in enumerate(columns)
            for row, cell in enumerate(cells)
            if cell[0] != _UNSEEN and (row, column) != (depth, middle)
        }
        self.things = tuple(self._things())

    def _things(self) -> Iterator[Thing]:
        count: Counter[str] = Counter()
        for ahead, right in sorted(self.cells, key=lambda cell: (cell[0] + abs(cell[1]), -cell[0], cell[1])):
            kind, colour, state = self.cells[ahead, right]
            if kind in _KINDS:
                words = (_COLOURS[colour], *([_STATES[state]] if kind == _DOOR else []), _KINDS[kind])
                name = " ".join(words)
                count[name] += 1
                yield Thing(name, count[name], ahead, right)

    def is_free(self, ahead: int, right: int) -> bool:
        """Whether the agent sees that it can stand there."""
        kind, _, state = self.cells.get((ahead, right), (_UNSEEN, 0, 0))
        return kind == _EMPTY or (kind == _DOOR and _STATES[state] == "open")

    def is_empty(self, ahead: int, right: int) -> bool:
        """Whether the agent sees that nothing is there, not even a doorway."""
        return self.cells.get((ahead, right), (_UNSEEN, 0, 0))[0] == _EMPTY

    @property
    def text(self) -> str:
        """The view in words."""
        seen = ", ".join(f"{thing.label} ({thing.place})" for thing in self.things) or "nothing"
        barrier = self.barrier
        facing = f" {barrier[0].capitalize()} {barrier[1]} ahead." if barrier else ""
        return f"You see: {seen}.{facing} Carrying {self.carrying or 'nothing'}."

    @property
    def barrier(self) -> tuple[str, int] | None:
        """The nearest wall or box straight ahead and its distance."""
        for ahead in range(1, 1 + max(cell[0] for cell in self.cells)):
            kind = self.cells.get((ahead, 0), (_UNSEEN, 0, 0))[0]
            if kind == _WALL or _KINDS.get(kind) == "box":
                return _KINDS.get(kind, "wall"), ahead
        return None

    def _may_enter(self, ahead: int, right: int, guess: bool) -> bool:
        if (ahead, right) == (0, 0) or self.is_free(ahead, right):
            return True
        return guess and (ahead, right) not in self.cells and -1 <= ahead <= self._depth and abs(right) <= self._middle

    def _poses(self, guess: bool) -> dict[Pose, tuple[Pose, Move]]:
        """Every pose the agent can walk to, nearest first, with the pose and the move before it."""
        reached: dict[Pose, tuple[Pose, Move]] = {_START: (_START, Move.WAIT)}
        queue = [_START]
        for pose in queue:
            ahead, right, turned = pose
            step = _HEADINGS[turned]
            forward = (ahead + step[0], right + step[1])
            nexts = [(Move.FORWARD, (*forward, turned))] if self._may_enter(*forward, guess) else []
            nexts += [(Move.LEFT, (ahead, right, (turned + 3) % 4)), (Move.RIGHT, (ahead, right, (turned + 1) % 4))]
            for move, after in nexts:
                if after not in reached:
                    reached[after] = (pose, move)
                    queue.append(after)
        return reached

    @cached_property
    def _sure(self) -> dict[Pose, tuple[Pose, Move]]:
        return self._poses(guess=False)

    @cached_property
    def _guessed(self) -> dict[Pose, tuple[Pose, Move]]:
        return self._poses(guess=True)

    def route(self, thing: Thing, *, onto: bool = False, guess: bool = False) -> tuple[list[Move], Pose] | None:
        """Finds the shortest way to face `thing`.

        Args:
            thing: where to.
            onto: stand on its cell instead.
            guess: take cells around the agent that it does not see for free.

        Returns:
            The moves and the pose they end in; None if there is no way.
        """
        reached = self._guessed if guess else self._sure
        there = (thing.ahead, thing.right)
        for pose in reached:
            ahead, right, turned = pose
            step = (0, 0) if onto else _HEADINGS[turned]
            if (ahead + step[0], right + step[1]) == there:
                moves: list[Move] = []
                at = pose
                while at != _START:
                    at, move = reached[at]
                    moves.append(move)
                return moves[::-1], pose
        return None
