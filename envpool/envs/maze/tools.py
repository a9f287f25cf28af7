"""The actions of Maze."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (Tool("move", "move {direction}", "moves one cell: up, down, left or right"),)
