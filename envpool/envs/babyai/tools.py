"""The actions of BabyAI."""

from __future__ import annotations

from envpool.tools import tool


@tool("go to {object}")
def go_to(object: str) -> None:
    """walks to an object in view and faces it, as in 'red ball 1'"""


@tool("pick up {object}")
def pick_up(object: str) -> None:
    """walks to a key, ball or box in view and takes it"""


@tool("go through {door}")
def go_through(door: str) -> None:
    """walks into an open doorway in view"""


@tool("toggle and go through {door}")
def toggle_and_go_through(door: str) -> None:
    """opens a door in view and steps into its doorway"""


@tool("toggle")
def toggle() -> None:
    """opens or closes what is right ahead"""


@tool("drop")
def drop() -> None:
    """puts what you carry on the free cell right ahead"""


@tool("move forward")
def move_forward() -> None:
    """takes one step"""


@tool("turn left")
def turn_left() -> None:
    """turns without a step"""


@tool("turn right")
def turn_right() -> None:
    """turns without a step"""


TOOLS = (go_to, pick_up, go_through, toggle_and_go_through, toggle, drop, move_forward, turn_left, turn_right)
