"""The actions of webshop."""

from __future__ import annotations

from envpool.tools import tool


@tool("search[{keywords}]")
def search(keywords: str) -> None:
    """searches the shop, from any page"""


@tool("click[{label}]")
def click(label: str) -> None:
    """clicks a button, a product or an option of the page, named as it is shown"""


TOOLS = (search, click)
