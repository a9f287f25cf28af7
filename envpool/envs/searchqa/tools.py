"""The actions of searchqa."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("search", "<search>{query}</search>", "searches Wikipedia and shows the passages found"),
    Tool("answer", "<answer>{answer}</answer>", "answers the question, in a few words"),
)
