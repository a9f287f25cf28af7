"""What is known of ALFWorld, which lives behind a server only."""

from __future__ import annotations

from envpool.dialects import Dialect
from envpool.envs.alfworld.tools import TOOLS
from envpool.spec import EnvSpec, Writing, goal_after
from envpool.splits import eval_from

_TASKS = range(2_620)
_GAME = (
    r"(?P<type>look_at_obj_in_light|pick_and_place_simple|pick_(?:clean|heat|cool)_then_place_in_recep"
    r"|pick_two_obj_and_place)[-_].+"
)
"""How ids of its training set name a game; they hold no number."""

INSTRUCTIONS = """\
You are in a household and have to do what the first observation asks for, such as putting a clean mug on a desk. \
Things and places have numbers, as in "mug 1" and "desk 2". You see what is on a place only after you have gone there, \
and what is in a closed one only after you have opened it. You can hold one object.

An action is one line. These are the forms: go to <place>; take <object> from <place>; put <object> in/on <place>; \
open <place>; close <place>; use <lamp>; clean <object> with <sink>; heat <object> with <microwave>; \
cool <object> with <fridge>; slice <object> with <knife>; examine <place where you are, or object that you hold>; \
inventory; look. For example: take mug 1 from desk 2.

Every observation ends with the actions that are possible now; take one of them, word for word. "Nothing happens." \
means that the action was not possible."""

SPEC = EnvSpec(
    name="alfworld",
    version="1",
    summary="find, carry, clean, heat, cool and place things in a household of text",
    instructions=INSTRUCTIONS,
    brief="Do the task in the household.",
    tools=TOOLS,
    writing=Writing(signs="/", lines=False),
    max_turns=30,
    success_above=0.99,
    make=None,
    tasks=eval_from(2420, _TASKS),
    dialect=Dialect(
        index="game",
        reset={"world_type": "Text"},
        actions="available_actions",
        at_once=1,  # a reset takes most of a second, inside the event loop
        tasks=_TASKS,
    ),
    goal=goal_after(r"Your task is to: (.+)"),
    item_ids=_GAME,
)
