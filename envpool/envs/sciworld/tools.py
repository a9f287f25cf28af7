"""The actions of sciworld."""

from __future__ import annotations

from envpool.tools import tool


@tool("look around")
def look_around() -> None:
    """describes the room"""


@tool("look at {object}")
def look_at(object: str) -> None:
    """describes an object"""


@tool("look in {container}")
def look_in(container: str) -> None:
    """tells what is in it"""


@tool("go to {place}")
def go_to(place: str) -> None:
    """walks to a neighbouring room; the door must be open"""


@tool("open {object}")
def open(object: str) -> None:
    """opens a door or a container"""


@tool("close {object}")
def close(object: str) -> None:
    """closes it"""


@tool("pick up {object}")
def pick_up(object: str) -> None:
    """takes an object"""


@tool("put down {object}")
def put_down(object: str) -> None:
    """drops an object you hold"""


@tool("move {object} to {container}")
def move(object: str, container: str) -> None:
    """puts an object into or onto another"""


@tool("pour {liquid} into {container}")
def pour(liquid: str, container: str) -> None:
    """pours a liquid"""


@tool("dunk {container} into {liquid}")
def dunk(container: str, liquid: str) -> None:
    """dips a container into a liquid"""


@tool("mix {container}")
def mix(container: str) -> None:
    """lets what is in it react"""


@tool("activate {device}")
def activate(device: str) -> None:
    """switches a device on"""


@tool("deactivate {device}")
def deactivate(device: str) -> None:
    """switches it off"""


@tool("use {object}")
def use(object: str) -> None:
    """uses a thing by itself"""


@tool("use {object} on {target}")
def use_on(object: str, target: str) -> None:
    """uses a thing on another, as in a thermometer on water"""


@tool("connect {part} to {other}")
def connect(part: str, other: str) -> None:
    """connects electrical parts at their terminals"""


@tool("disconnect {part}")
def disconnect(part: str) -> None:
    """takes its wires off"""


@tool("read {object}")
def read(object: str) -> None:
    """reads a note or a book"""


@tool("eat {food}")
def eat(food: str) -> None:
    """eats it"""


@tool("flush {object}")
def flush(object: str) -> None:
    """flushes a toilet"""


@tool("focus on {object}")
def focus_on(object: str) -> None:
    """declares what the task is about; a wrong one ends the episode"""


@tool("wait")
def wait() -> None:
    """lets ten moments pass"""


@tool("wait1")
def wait_one() -> None:
    """lets one moment pass"""


@tool("task")
def task() -> None:
    """repeats the task"""


@tool("inventory")
def inventory() -> None:
    """tells what you hold"""


@tool("{number}")
def choose(number: int) -> None:
    """answers the question which of several things you meant"""


TOOLS = (
    look_around,
    look_at,
    look_in,
    go_to,
    open,
    close,
    pick_up,
    put_down,
    move,
    pour,
    dunk,
    mix,
    activate,
    deactivate,
    use,
    use_on,
    connect,
    disconnect,
    read,
    eat,
    flush,
    focus_on,
    wait,
    wait_one,
    task,
    inventory,
    choose,
)
