"""The actions of searchqa."""

from __future__ import annotations

from envpool.tools import tool


@tool("<search>{query}</search>")
def search(query: str) -> None:
    """searches Wikipedia and shows the passages found"""


@tool("<answer>{answer}</answer>")
def answer(answer: str) -> None:
    """answers the question, in a few words"""


TOOLS = (search, answer)
