"""The actions of alfworld."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("go_to", "go to {receptacle}", "walks to a place, as in 'desk 1'"),
    Tool("take", "take {object} from {receptacle}", "picks up an object where you are"),
    Tool("put", "put {object} in/on {receptacle}", "puts down what you hold"),
    Tool("open", "open {receptacle}", "opens a closed place, to see what is in it"),
    Tool("close", "close {receptacle}", "closes it again"),
    Tool("use", "use {object}", "switches a lamp on"),
    Tool("clean", "clean {object} with {receptacle}", "washes what you hold, at a sink"),
    Tool("heat", "heat {object} with {receptacle}", "heats what you hold, with a microwave"),
    Tool("cool", "cool {object} with {receptacle}", "cools what you hold, with a fridge"),
    Tool("slice", "slice {object} with {tool}", "cuts an object with a knife that you hold"),
    Tool("examine", "examine {thing}", "looks closely at the place where you are, or at the object you hold"),
    Tool("inventory", "inventory", "tells what you hold"),
    Tool("look", "look", "tells what is around you"),
)
