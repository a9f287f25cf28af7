"""The actions of sqlgym."""

from __future__ import annotations

from envpool.tools import tool


@tool("{sql}")
def query(sql: str) -> None:
    """runs one SQLite query; what it returns is your answer"""


TOOLS = (query,)
