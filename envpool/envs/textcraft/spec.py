"""What is known of TextCraft: what a model is told, its splits, and its card."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from envpool.dialects import Dialect
from envpool.envs.textcraft.book import book
from envpool.envs.textcraft.expert import expert
from envpool.envs.textcraft.tools import TOOLS
from envpool.envs.textcraft.world import VARIANTS, TextCraft, distractors, locate, split_of
from envpool.spec import EnvSpec, Facts, Place, Writing, goal_after
from envpool.types import Split

INSTRUCTIONS = """\
You gather and craft items until you have made one item, the goal. The first observation shows the crafting commands
that you may use, in no particular order, and the goal; you may not need all of the commands. You start with nothing.
In each turn you do one of these:

get <number> <item>
    Takes a raw item from the world, as in "get 2 oak logs". An item that can be crafted cannot be got.
craft <number> <item> using <number> <ingredient>, <number> <ingredient>, ...
    Carries out one of the commands, once, with the numbers it is shown with. You must hold its ingredients. If the
    command asks for a kind of item, such as "planks", name an item of that kind, such as "oak planks".
inventory
    Tells what you hold.

The task is done as soon as you have crafted the goal."""

BRIEF = "Craft the goal."

WOODS = ("acacia", "birch", "crimson", "dark oak", "jungle", "oak", "spruce", "warped")
COLOURS = (
    *("black", "blue", "brown", "cyan", "gray", "green", "light blue", "light gray", "lime", "magenta", "orange"),
    *("pink", "purple", "red", "white", "yellow"),
)

TOO_LONG = frozenset(
    {"lodestone", "netherite block", *(f"{colour} banner" for colour in COLOURS if colour not in ("green", "white"))}
)
"""Goals that can take more turns than there are; their tasks have numbers like all others but are in no split."""


@functools.cache
def _tasks(split: Split) -> Sequence[int]:
    goals = book().goals
    ranks = [rank for rank, goal in enumerate(goals) if goal not in TOO_LONG]
    return tuple(v * len(goals) + rank for v in range(VARIANTS) for rank in ranks if split_of(v, rank) == split)


@functools.cache
def _goal_facts() -> Sequence[tuple[int, str]]:
    return [(book().depth[goal], _kind(goal)) for goal in book().goals]


def _kind(goal: str) -> str:
    if goal.startswith(tuple(f"{wood} " for wood in WOODS)):
        return "wood"
    return "colour" if goal.startswith(tuple(f"{colour} " for colour in COLOURS)) else "other"


def _facts(index: int) -> Facts:
    variant, rank = locate(index)
    depth, kind = _goal_facts()[rank]
    return {"depth": depth, "distractors": distractors(variant), "kind": kind}


SPEC = EnvSpec(
    name="textcraft",
    version="1",
    summary="gather and craft an item of Minecraft by written recipes",
    instructions=INSTRUCTIONS,
    brief=BRIEF,
    make=TextCraft,
    tasks=_tasks,
    facts=_facts,
    max_turns=20,
    success_above=0.99,
    task_type="depth",
    expert=expert,
    place=Place.INLINE,
    writing=Writing(signs=",", lines=False),
    tools=TOOLS,
    dialect=Dialect(
        create={}, closes=True, tasks=range(544), task_if_none=0, alike="start all of them with the same PYTHONHASHSEED"
    ),
    goal=goal_after(r"Goal: (.+)"),
    difficulty="depth",
    renumbered="the original counts its goals in an order of its own",
)
