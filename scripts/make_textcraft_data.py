"""Makes the recipes of TextCraft from the MIT package minecraft-data, which envpool does not need to run.

    pip install minecraft-data==3.20.0 && python scripts/make_textcraft_data.py

The package spells every recipe out for every variant (a chest of oak planks, a chest of birch planks, ...) and
numbers the items. We name the items, fold the variants into ingredient groups of our own, and take out the
recipes that would make something out of itself. The same package gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

PACKAGE, PACKAGE_VERSION, GAME_VERSION = "minecraft_data", "3.20.0", "1.16.2"
TARGET = Path(__file__).resolve().parents[1] / "envpool" / "envs" / "textcraft" / "data" / "recipes.json"

TREES = ("acacia", "birch", "dark oak", "jungle", "oak", "spruce")
FUNGI = ("crimson", "warped")
COLOURS = (
    *("black", "blue", "brown", "cyan", "gray", "green", "light blue", "light gray", "lime", "magenta", "orange"),
    *("pink", "purple", "red", "white", "yellow"),
)
STONES = ["blackstone", "cobblestone"]
GROUPS: dict[str, list[str]] = {
    **{
        f"{tree} logs": [f"{tree} log", f"{tree} wood", f"stripped {tree} log", f"stripped {tree} wood"]
        for tree in TREES
    },
    **{f"{f} stems": [f"{f} hyphae", f"{f} stem", f"stripped {f} hyphae", f"stripped {f} stem"] for f in FUNGI},
    "planks": [f"{wood} planks" for wood in sorted(TREES + FUNGI)],
    "soul fire base blocks": ["soul sand", "soul soil"],
    "stone crafting materials": STONES,
    "stone tool materials": STONES,
    "wooden slabs": [f"{wood} slab" for wood in sorted(TREES + FUNGI)],
    "wool": [f"{colour} wool" for colour in COLOURS],
}
GROUPS["logs"] = [member for name in sorted(GROUPS) if name.endswith((" logs", " stems")) for member in GROUPS[name]]

NOT_GETTABLE = ["planks", "wool"]
"""Groups of which a member must be crafted; every other group can also be got under its own name."""

NO_MEMBER = {"wool": "white wool"}
"""TextCraft takes only dyed wool for "wool"; with white wool a painting would be a goal of depth 2, not 3."""

STONE_TOOLS = ("stone axe", "stone hoe", "stone pickaxe", "stone shovel", "stone sword")

DROPPED = {
    # Of each cycle TextCraft's data holds one direction: these are the other ones.
    *(("iron ingot", "iron nugget"), ("gold nugget", "gold ingot"), ("honey block", "honey bottle")),
    # TextCraft knows one stone for a slab or stairs; the others would close cycles (slab -> chiseled -> slab).
    *(
        (f"{sand} {shape}", f"chiseled {sand}")
        for sand in ("sandstone", "red sandstone")
        for shape in ("slab", "stairs")
    ),
    *((f"{sand} stairs", f"cut {sand}") for sand in ("sandstone", "red sandstone")),
    *((f"{stone} {shape}", f"{stone} pillar") for stone in ("purpur", "quartz") for shape in ("slab", "stairs")),
}
"""Recipes left out, as (product, ingredient)."""

Ingredients = tuple[tuple[str, int], ...]


def main() -> int:
    """Writes the file; returns the exit code."""
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "none"
    if found != PACKAGE_VERSION:
        print(
            f"need {PACKAGE} {PACKAGE_VERSION}, found {found}: pip install minecraft-data=={PACKAGE_VERSION}",
            file=sys.stderr,
        )
        return 2
    TARGET.write_text(build(), encoding="utf-8", newline="\n")
    print(f"wrote {TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


def build() -> str:
    """Returns the text of the data file: one group and one recipe a line, sorted."""
    folder = files(PACKAGE) / "data" / "data" / "pc" / GAME_VERSION
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    recipes = json.loads((folder / "recipes.json").read_text(encoding="utf-8"))
    names = {item["id"]: item["name"].replace("_", " ") for item in items}
    variants: dict[tuple[str, int], dict[frozenset[tuple[str, int]], Ingredients]] = {}
    for recipe in (recipe for same_product in recipes.values() for recipe in same_product):
        product = (names[recipe["result"]["id"]], recipe["result"]["count"])
        ingredients = _ingredients(recipe, names)
        variants.setdefault(product, {}).setdefault(frozenset(ingredients), ingredients)
    lines = sorted(
        (name, _command(name, count, ingredients))
        for (name, count), ways in variants.items()
        for ingredients in _fold(name, list(ways.values()))
        if not _dropped(name, ingredients)
    )
    return _render([line for _, line in lines])


def _ingredients(recipe: Mapping[str, Any], names: Mapping[int, str]) -> Ingredients:
    cells = recipe.get("ingredients") or [cell for row in recipe["inShape"] for cell in row if cell is not None]
    return tuple(Counter(names[cell] for cell in cells).items())


def _fold(product: str, ways: list[Ingredients]) -> list[Ingredients]:
    """Replaces the variants that differ in the members of a group, all members present, by one with the group."""
    for group, members in sorted(GROUPS.items(), key=lambda item: -len(item[1])):
        if group.startswith("stone ") and (group == "stone tool materials") != (product in STONE_TOOLS):
            continue
        folded: dict[frozenset[tuple[str, int]], tuple[Ingredients, list[Ingredients]]] = {}
        for way in ways:
            for place, (name, count) in enumerate(way):
                if name in members:
                    general = (*way[:place], (group, count), *way[place + 1 :])
                    folded.setdefault(frozenset(general), (general, []))[1].append(way)
        for general, special in folded.values():
            if len(special) == len(members):
                ways = [way for way in ways if way not in special] + [general]
    return ways


def _dropped(product: str, ingredients: Ingredients) -> bool:
    # TextCraft's data holds no recipe that takes a block apart ("9 diamond using 1 diamond block").
    if len(ingredients) == 1 and ingredients[0][0].endswith(" block"):
        return True
    return any((product, name) in DROPPED for name, _ in ingredients)


def _command(name: str, count: int, ingredients: Ingredients) -> str:
    return f"craft {count} {name} using " + ", ".join(f"{number} {ingredient}" for ingredient, number in ingredients)


def _render(commands: list[str]) -> str:
    groups = {name: [m for m in GROUPS[name] if m != NO_MEMBER.get(name)] for name in sorted(GROUPS)}
    rows = [f"  {json.dumps(name)}: {json.dumps(members)}" for name, members in groups.items()]
    source = f"recipes of Minecraft {GAME_VERSION} from minecraft-data {PACKAGE_VERSION} (MIT); groups are ours"
    return (
        f'{{\n "source": {json.dumps(source)},\n "groups": {{\n'
        + ",\n".join(rows)
        + f'\n }},\n "not_gettable": {json.dumps(NOT_GETTABLE)},\n "recipes": [\n'
        + ",\n".join(f"  {json.dumps(command)}" for command in commands)
        + "\n ]\n}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
