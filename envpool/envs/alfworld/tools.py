"""The actions of alfworld."""

from __future__ import annotations

from envpool.tools import tool


@tool("go to {receptacle}")
def go_to(receptacle: str) -> None:
    """walks to a place, as in 'desk 1'"""


@tool("take {object} from {receptacle}")
def take(object: str, receptacle: str) -> None:
    """picks up an object where you are"""


@tool("put {object} in/on {receptacle}")
def put(object: str, receptacle: str) -> None:
    """puts down what you hold"""


@tool("open {receptacle}")
def open(receptacle: str) -> None:
    """opens a closed place, to see what is in it"""


@tool("close {receptacle}")
def close(receptacle: str) -> None:
    """closes it again"""


@tool("use {object}")
def use(object: str) -> None:
    """switches a lamp on"""


@tool("clean {object} with {receptacle}")
def clean(object: str, receptacle: str) -> None:
    """washes what you hold, at a sink"""


@tool("heat {object} with {receptacle}")
def heat(object: str, receptacle: str) -> None:
    """heats what you hold, with a microwave"""


@tool("cool {object} with {receptacle}")
def cool(object: str, receptacle: str) -> None:
    """cools what you hold, with a fridge"""


@tool("slice {object} with {tool}")
def slice(object: str, tool: str) -> None:
    """cuts an object with a knife that you hold"""


@tool("examine {thing}")
def examine(thing: str) -> None:
    """looks closely at the place where you are, or at the object you hold"""


@tool("inventory")
def inventory() -> None:
    """tells what you hold"""


@tool("look")
def look() -> None:
    """tells what is around you"""


TOOLS = (go_to, take, put, open, close, use, clean, heat, cool, slice, examine, inventory, look)
