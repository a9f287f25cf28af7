"""The actions of TextCraft."""

from __future__ import annotations

from envpool.tools import tool


@tool("get {number} {item}")
def get(number: int, item: str) -> None:
    """takes so many of a raw item from the world"""


@tool("craft {number} {item} using {ingredients}")
def craft(number: int, item: str, ingredients: str) -> None:
    """carries out one of the commands once; ingredients are written as in '2 oak planks, 1 stick'"""


@tool("inventory")
def inventory() -> None:
    """tells what you hold"""


TOOLS = (get, craft, inventory)
