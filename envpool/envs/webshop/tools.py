"""The actions of webshop."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("search", "search[{keywords}]", "searches the shop, from any page"),
    Tool("click", "click[{label}]", "clicks a button, a product or an option of the page, named as it is shown"),
)
