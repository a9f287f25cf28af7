"""The actions of sqlgym."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (Tool("query", "{sql}", "runs one SQLite query; what it returns is your answer"),)
