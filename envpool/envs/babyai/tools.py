"""The actions of BabyAI."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("go_to", "go to {object}", "walks to an object in view and faces it, as in 'red ball 1'"),
    Tool("pick_up", "pick up {object}", "walks to a key, ball or box in view and takes it"),
    Tool("go_through", "go through {door}", "walks into an open doorway in view"),
    Tool("toggle_and_go_through", "toggle and go through {door}", "opens a door in view and steps into its doorway"),
    Tool("toggle", "toggle", "opens or closes what is right ahead"),
    Tool("drop", "drop", "puts what you carry on the free cell right ahead"),
    Tool("move_forward", "move forward", "takes one step"),
    Tool("turn_left", "turn left", "turns without a step"),
    Tool("turn_right", "turn right", "turns without a step"),
)
