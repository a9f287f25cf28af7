"""The actions of Maze."""

from __future__ import annotations

from envpool.tools import tool


@tool("move {direction}")
def move(direction: str) -> None:
    """moves one cell: up, down, left or right"""


TOOLS = (move,)
