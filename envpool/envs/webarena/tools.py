"""The actions of webarena."""

from __future__ import annotations

from envpool.tools import tool


@tool("click [{id}]")
def click(id: int) -> None:
    """clicks the element with this number"""


@tool("type [{id}] [{text}] [{enter}]")
def type(id: int, text: str, enter: int) -> None:
    """types into a field; enter 1 presses Enter after it, 0 not"""


@tool("hover [{id}]")
def hover(id: int) -> None:
    """moves the mouse over an element"""


@tool("press [{keys}]")
def press(keys: str) -> None:
    """presses keys, as in 'Ctrl+v'"""


@tool("scroll [{direction}]")
def scroll(direction: str) -> None:
    """scrolls the page: up or down"""


@tool("new_tab")
def new_tab() -> None:
    """opens an empty tab"""


@tool("tab_focus [{index}]")
def tab_focus(index: int) -> None:
    """goes to another tab"""


@tool("close_tab")
def close_tab() -> None:
    """closes the tab"""


@tool("goto [{url}]")
def goto(url: str) -> None:
    """opens an address"""


@tool("go_back")
def go_back() -> None:
    """goes back to the page before"""


@tool("go_forward")
def go_forward() -> None:
    """goes forward again"""


@tool("stop [{answer}]")
def stop(answer: str) -> None:
    """ends the task with your answer; empty if none is asked for, N/A if it is impossible"""


TOOLS = (click, type, hover, press, scroll, new_tab, tab_focus, close_tab, goto, go_back, go_forward, stop)
