"""The actions of sciworld."""

from __future__ import annotations

from envpool.spec import Tool

TOOLS = (
    Tool("look_around", "look around", "describes the room"),
    Tool("look_at", "look at {object}", "describes an object"),
    Tool("look_in", "look in {container}", "tells what is in it"),
    Tool("go_to", "go to {place}", "walks to a neighbouring room; the door must be open"),
    Tool("open", "open {object}", "opens a door or a container"),
    Tool("close", "close {object}", "closes it"),
    Tool("pick_up", "pick up {object}", "takes an object"),
    Tool("put_down", "put down {object}", "drops an object you hold"),
    Tool("move", "move {object} to {container}", "puts an object into or onto another"),
    Tool("pour", "pour {liquid} into {container}", "pours a liquid"),
    Tool("dunk", "dunk {container} into {liquid}", "dips a container into a liquid"),
    Tool("mix", "mix {container}", "lets what is in it react"),
    Tool("activate", "activate {device}", "switches a device on"),
    Tool("deactivate", "deactivate {device}", "switches it off"),
    Tool("use", "use {object}", "uses a thing by itself"),
    Tool("use_on", "use {object} on {target}", "uses a thing on another, as in a thermometer on water"),
    Tool("connect", "connect {part} to {other}", "connects electrical parts at their terminals"),
    Tool("disconnect", "disconnect {part}", "takes its wires off"),
    Tool("read", "read {object}", "reads a note or a book"),
    Tool("eat", "eat {food}", "eats it"),
    Tool("flush", "flush {object}", "flushes a toilet"),
    Tool("focus_on", "focus on {object}", "declares what the task is about; a wrong one ends the episode"),
    Tool("wait", "wait", "lets ten moments pass"),
    Tool("wait_one", "wait1", "lets one moment pass"),
    Tool("task", "task", "repeats the task"),
    Tool("inventory", "inventory", "tells what you hold"),
    Tool("choose", "{number:int}", "answers the question which of several things you meant"),
)
