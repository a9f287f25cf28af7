"""The actions of webarena."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("click", "click [{id:int}]", "clicks the element with this number"),
    Tool("type", "type [{id:int}] [{text}] [{enter:int}]", "types into a field; enter 1 presses Enter after it, 0 not"),
    Tool("hover", "hover [{id:int}]", "moves the mouse over an element"),
    Tool("press", "press [{keys}]", "presses keys, as in 'Ctrl+v'"),
    Tool("scroll", "scroll [{direction}]", "scrolls the page: up or down"),
    Tool("new_tab", "new_tab", "opens an empty tab"),
    Tool("tab_focus", "tab_focus [{index:int}]", "goes to another tab"),
    Tool("close_tab", "close_tab", "closes the tab"),
    Tool("goto", "goto [{url}]", "opens an address"),
    Tool("go_back", "go_back", "goes back to the page before"),
    Tool("go_forward", "go_forward", "goes forward again"),
    Tool(
        "stop", "stop [{answer}]", "ends the task with your answer; empty if none is asked for, N/A if it is impossible"
    ),
)
