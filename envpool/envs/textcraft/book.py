"""The recipes of TextCraft, and what follows from them.

The data file is made by ``scripts/make_textcraft_data.py`` and holds one direction of every cycle of recipes, so that
every item has a depth: 0 if it is raw, else one more than the deepest ingredient of the shallowest recipe.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

Ingredients = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A crafting command.

    Attributes:
        product: the item it makes.
        count: how many of it.
        ingredients: (item or group, number), in the order of the command.
        names: the product and the ingredients.
        line: the command as it is shown.
    """

    product: str
    count: int
    ingredients: Ingredients
    names: frozenset[str]
    line: str


_COMMAND = re.compile(r"craft (?:([0-9]{1,4}) )?([^,]+?) using (.+)")
_COUNTED = re.compile(r"([1-9][0-9]{0,3}) (.+)")


def parse_recipe(line: str) -> Recipe | None:
    """Reads ``craft 2 lead using 4 string, 1 slime ball``; None if `line` is nothing of this shape."""
    if (match := _COMMAND.fullmatch(line)) is None:
        return None
    parts = [_COUNTED.fullmatch(part.strip()) for part in match[3].split(",")]
    ingredients = {part[2]: int(part[1]) for part in parts if part}
    if len(ingredients) < len(parts):  # something unreadable, or an ingredient twice
        return None
    return Recipe(match[2], int(match[1] or 1), tuple(ingredients.items()), frozenset({match[2], *ingredients}), line)


class Book:
    """All recipes, and what follows from them.

    Attributes:
        recipes: in a fixed order.
        made: product -> the recipes that make it.
        groups: group -> the items that may be named in its place.
        raw: the items and groups that can be got.
        depth: the depth of every item; that of a group which cannot be got is that of its shallowest member.
        goals: the products by depth, then by name.
    """

    def __init__(self) -> None:
        data = json.loads((files("envpool.envs.textcraft") / "data" / "recipes.json").read_text(encoding="utf-8"))
        self.recipes = [recipe for recipe in map(parse_recipe, data["recipes"]) if recipe]
        self.groups: Mapping[str, Sequence[str]] = data["groups"]
        self.made: dict[str, list[Recipe]] = {}
        for recipe in self.recipes:
            self.made.setdefault(recipe.product, []).append(recipe)
        named = {name for recipe in self.recipes for name in recipe.names}.union(*self.groups.values())
        self.raw = frozenset(named - self.made.keys() - set(data["not_gettable"]))
        self.depth = depths(self.recipes, self.raw, self.groups)
        self.goals = sorted(self.made, key=lambda name: (self.depth[name], name))

    def shallowest(self, name: str) -> list[Recipe]:
        """The recipes that make an item at its depth."""
        return [r for r in self.made[name] if all(self.depth[i] < self.depth[name] for i, _ in r.ingredients)]

    def stand_ins(self, name: str) -> Sequence[str]:
        """What can be crafted in place of `name` at its depth: itself, or members if it is a group."""
        members = self.groups.get(name, ())
        return [member for member in members if self.depth[member] == self.depth[name]] or [name]

    def accepted(self, name: str) -> Sequence[str]:
        """What an action may name where a command says `name`."""
        return (name, *self.groups.get(name, ()))

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - there is one book in a process, and it stays
    def closure(self, goal: str) -> frozenset[str]:
        """The lines of all recipes that some task with this goal may need."""
        lines: set[str] = set()
        for name in self.stand_ins(goal):
            for recipe in self.shallowest(name) if self.depth[name] else ():
                lines.add(recipe.line)
                lines.update(*(self.closure(ingredient) for ingredient, _ in recipe.ingredients))
        return frozenset(lines)


def depths(recipes: Iterable[Recipe], raw: Iterable[str], groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The depth of everything that can be had; what is missing cannot be made with these recipes."""
    depth = dict.fromkeys(raw, 0)
    while True:
        before = len(depth)
        level = [r.product for r in recipes if r.product not in depth and all(i in depth for i, _ in r.ingredients)]
        depth.update(dict.fromkeys(level, 1 + max(depth.values(), default=0)))
        for group, members in groups.items():
            known = [depth[member] for member in members if member in depth]
            if known and group not in depth:
                depth[group] = min(known)
        if len(depth) == before:
            return depth


@functools.cache
def book() -> Book:
    """The recipes, read once."""
    return Book()
