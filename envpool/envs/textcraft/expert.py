"""The expert of TextCraft: plans with the commands that it is shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from envpool.envs.textcraft.book import Ingredients, Recipe, book, depths
from envpool.envs.textcraft.world import TextCraft, command

Ways = Mapping[str, tuple[Recipe, Ingredients]]
"""Item -> the command that makes it, and its ingredients with every kind of item replaced by an item."""


def expert(world: TextCraft) -> Iterator[tuple[str, str]]:
    """Works off the ingredients of the goal one after the other, getting at once all that is needed of a raw item."""
    ways = _ways(world)
    while ways and not world.done:
        needs = _needs(ways, world.goal, world.inventory)
        chain = [world.goal]
        while (
            lacking := [i for i, _ in ways[chain[-1]][1] if world.inventory[i] < needs[i]] if chain[-1] in ways else []
        ):
            chain.append(lacking[0])
        item = chain[-1]
        held = world.inventory[item]
        action = command(*ways[item]) if item in ways else f"get {needs[item] - held} {item}"
        need = ", so ".join(f"{needs[name]} {name}" for name in chain[1:])
        thought = f"I need {need}{f', have {held}' if held else ''}." if need else "I can craft it."
        yield f"Goal {world.goal}. {thought}", action


def _ways(world: TextCraft) -> Ways:
    """How to make, at the least depth, the goal and all that goes into it; empty if the commands do not suffice."""
    named = {item for recipe in world.commands for name, _ in recipe.ingredients for item in book().accepted(name)}
    raw = {item for item in named if world.gettable(item)}
    depth = depths(world.commands, raw, book().groups)
    ways: dict[str, tuple[Recipe, Ingredients]] = {}
    todo = [world.goal] if world.goal in depth else []
    while todo:
        item = todo.pop()
        if item not in ways and item not in raw:
            recipe = next(
                recipe
                for recipe in world.commands
                if recipe.product == item
                and all(depth.get(i, depth[item]) < depth[item] for i, _ in recipe.ingredients)
            )
            ways[item] = recipe, tuple((_item(name, raw, depth), count) for name, count in recipe.ingredients)
            todo += [name for name, _ in ways[item][1]]
    return ways


def _item(name: str, raw: Collection[str], depth: Mapping[str, int]) -> str:
    """The item to name where a command says `name`."""
    if name in raw or name not in book().groups:
        return name
    return min((member for member in book().groups[name] if member in depth), key=lambda member: depth[member])


def _needs(ways: Ways, goal: str, inventory: Counter[str]) -> Counter[str]:
    """How many of each item it still takes to craft the goal once, those that are held included."""
    needs = Counter({goal: 1})
    for item in _consumers_first(ways, goal):
        recipe, ingredients = ways[item]
        times = math.ceil(max(needs[item] - inventory[item], 0) / recipe.count)
        needs.update({name: count * times for name, count in ingredients})
    return needs


def _consumers_first(ways: Ways, goal: str) -> Sequence[str]:
    """The items of `ways`, each before what goes into it."""
    order: dict[str, None] = {}

    def visit(item: str) -> None:
        if item in ways and item not in order:
            for name, _ in ways[item][1]:
                visit(name)
            order[item] = None

    visit(goal)
    return list(reversed(order))
