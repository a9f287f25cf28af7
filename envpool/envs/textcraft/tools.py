"""The actions of TextCraft."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("get", "get {number:int} {item}", "takes so many of a raw item from the world"),
    Tool(
        "craft",
        "craft {number:int} {item} using {ingredients}",
        "carries out one of the commands once; ingredients are written as in '2 oak planks, 1 stick'",
    ),
    Tool("inventory", "inventory", "tells what you hold"),
)
