"""TextCraft: gather and craft items of Minecraft by written recipes (rules: arXiv 2311.05772, as AgentGym plays them).

A task is ``index = variant * number of goals + rank``. `rank` counts the goals by depth, then by name; `variant` says
how many distractors there are (0: none, 1-5: one, 6-10: two, ... ten, and again from one) and seeds which.

Unlike the predecessor we show one way to make each item needed instead of all, accept only the commands shown, and let
special items stand in for every kind of item, not only for planks and wool.

No first observation occurs in two splits. Variants 1, 2, 3, ... go round explore, explore, explore, eval, train; each
split has a third of all recipes as its own and draws distractors from these only, and never one that some task with the
same goal needs. Tasks without distractors exist once per goal: there the rank goes round.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from envpool.envs.textcraft_book import Ingredients, Recipe, book, depths, parse_recipe
from envpool.errors import EnvPoolError, UnknownTask, did_you_mean
from envpool.spec import EnvSpec, Facts, Tool, Writing
from envpool.types import Split, Step

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

VARIANTS = 101
MAX_DISTRACTORS = 10
WOODS = ("acacia", "birch", "crimson", "dark oak", "jungle", "oak", "spruce", "warped")
COLOURS = (
    *("black", "blue", "brown", "cyan", "gray", "green", "light blue", "light gray", "lime", "magenta", "orange"),
    *("pink", "purple", "red", "white", "yellow"),
)

TOO_LONG = frozenset(
    {"lodestone", "netherite block", *(f"{colour} banner" for colour in COLOURS if colour not in ("green", "white"))}
)
"""Goals that can take more turns than there are; their tasks have numbers like all others but are in no split."""

_GET = re.compile(r"get ([1-9][0-9]{0,3}) (.+)")


def _locate(index: int) -> tuple[int, int]:
    """Variant and rank of a task."""
    goals = len(book().goals)
    if not 0 <= index < VARIANTS * goals:
        raise UnknownTask(f"textcraft has no task {index}: they are numbered 0 to {VARIANTS * goals - 1}")
    return divmod(index, goals)


def _distractors(variant: int) -> int:
    return 0 if variant == 0 else 1 + (variant - 1) // 5 % MAX_DISTRACTORS


def _split(variant: int, rank: int) -> Split:
    place = (variant or rank) % 5
    return Split.TRAIN if place == 0 else Split.EVAL if place == 4 else Split.EXPLORE


@functools.cache
def _tasks(split: Split) -> Sequence[int]:
    goals = book().goals
    ranks = [rank for rank, goal in enumerate(goals) if goal not in TOO_LONG]
    return tuple(v * len(goals) + rank for v in range(VARIANTS) for rank in ranks if _split(v, rank) == split)


@functools.cache
def _goal_facts() -> Sequence[tuple[int, str]]:
    return [(book().depth[goal], _kind(goal)) for goal in book().goals]


def _kind(goal: str) -> str:
    if goal.startswith(tuple(f"{wood} " for wood in WOODS)):
        return "wood"
    return "colour" if goal.startswith(tuple(f"{colour} " for colour in COLOURS)) else "other"


def _facts(index: int) -> Facts:
    variant, rank = _locate(index)
    depth, kind = _goal_facts()[rank]
    return {"depth": depth, "distractors": _distractors(variant), "kind": kind}


def _draw(index: int) -> tuple[list[Recipe], str]:
    """The commands and the goal of a task. Every item needed comes with one way to make it, at its depth."""
    variant, rank = _locate(index)
    rng = random.Random(f"textcraft {index}")
    needed: dict[str, Recipe] = {}
    chosen: dict[str, str] = {}

    def need(name: str) -> None:
        if name in chosen or name in book().raw:
            return
        chosen[name] = item = rng.choice(book().stand_ins(name))
        if item not in needed:
            needed[item] = rng.choice(book().shallowest(item))
            for ingredient, _ in needed[item].ingredients:
                need(ingredient)

    need(goal := book().goals[rank])
    commands = list(needed.values())
    if count := _distractors(variant):
        share = list(Split).index(_split(variant, rank))
        closure = book().closure(goal)
        pool = [recipe for recipe in book().recipes[share :: len(Split)] if recipe.line not in closure]
        names = frozenset[str]().union(*(recipe.names for recipe in commands))
        near = [recipe for recipe in pool if not names.isdisjoint(recipe.names)]
        far = [recipe for recipe in pool if names.isdisjoint(recipe.names)]
        nearest = rng.sample(near, min(count, len(near)))
        commands += nearest + rng.sample(far, count - len(nearest))
    rng.shuffle(commands)
    return commands, goal


class TextCraft:
    """One crafting world.

    Attributes:
        commands: the crafting commands that may be used.
        goal: the item to craft.
        inventory: item -> how many are held.
        done: whether the goal is crafted.
    """

    def __init__(self) -> None:
        self.commands: Sequence[Recipe] = ()
        self.goal = ""
        self.inventory: Counter[str] = Counter()
        self.done = False

    def reset(self, index: int) -> str:
        """Starts the task `index`.

        Raises:
            UnknownTask: there is no such task.
        """
        return self._begin(*_draw(index))

    def start(self, commands: Sequence[str], goal: str) -> str:
        """Starts a task that is not numbered, as in ``start(["craft 2 lead using 4 string, 1 slime ball"], "lead")``.

        Raises:
            EnvPoolError: a command cannot be read, or none makes the goal.
        """
        recipes = []
        for line in commands:
            if (recipe := parse_recipe(line)) is None:
                raise EnvPoolError(
                    f"{line!r} is no crafting command: write it like 'craft 2 lead using 4 string, 1 slime ball'"
                )
            recipes.append(recipe)
        if goal not in {recipe.product for recipe in recipes}:
            near = did_you_mean(goal, [recipe.product for recipe in recipes])
            raise EnvPoolError(f"no crafting command makes the goal {goal!r}{near}")
        return self._begin(recipes, goal)

    def _begin(self, commands: Sequence[Recipe], goal: str) -> str:
        self.commands, self.goal, self.inventory, self.done = commands, goal, Counter(), False
        lines = "\n".join(recipe.line for recipe in commands)
        return f"Crafting commands:\n{lines}\n\nGoal: craft {goal}."

    def step(self, action: str) -> Step:
        """Takes one action; the score is 1 once the goal is crafted, else 0.

        Raises:
            EnvPoolError: no task was started.
        """
        if not self.goal:
            raise EnvPoolError("textcraft was stepped before a task was started: call reset first")
        observation = "The goal is crafted already." if self.done else self._act(" ".join(action.split()).rstrip("."))
        return Step(observation, float(self.done), self.done)

    def _act(self, action: str) -> str:
        if action == "inventory":
            return "Inventory: " + (", ".join(f"{n} {item}" for item, n in self.inventory.items()) or "nothing")
        if match := _GET.fullmatch(action):
            return self._get(match[2], int(match[1]))
        shown = next((recipe for recipe in self.commands if recipe.line == action), None)
        if wanted := shown or parse_recipe(action):
            return self._craft(wanted)
        return "Could not understand that: get, craft or inventory?"

    def _get(self, item: str, count: int) -> str:
        if not self.gettable(item):
            return f"Could not find {item}"
        self.inventory[item] += count
        return f"Got {count} {item}"

    def _craft(self, wanted: Recipe) -> str:
        recipe = next((recipe for recipe in self.commands if _fits(wanted, recipe)), None)
        if recipe is None:
            return f"Could not find a command like that for {wanted.product}"
        if any(self.inventory[item] < count for item, count in wanted.ingredients):
            return f"Could not find enough items to craft {recipe.product}"
        self.inventory.subtract(dict(wanted.ingredients))
        self.inventory[recipe.product] += recipe.count
        self.inventory = +self.inventory  # forgets what is used up
        self.done = recipe.product == self.goal
        return f"Crafted {recipe.count} {recipe.product}"

    def gettable(self, item: str) -> bool:
        """Whether `get` finds it: a raw item of the book, or one that only the commands of this task know."""
        if any(item == recipe.product for recipe in self.commands):
            return False
        return item in book().raw or (
            item not in book().depth and any(item in recipe.names for recipe in self.commands)
        )

    def available_actions(self) -> Sequence[str]:
        """Gets in the amounts of the commands, every craft that the inventory allows, and ``inventory``."""
        gets = [
            f"get {count} {name}"
            for recipe in self.commands
            for name, count in recipe.ingredients
            if self.gettable(name)
        ]
        crafts = [_command(recipe, held) for recipe in self.commands if (held := self._held(recipe))]
        return list(dict.fromkeys([*gets, *crafts, "inventory"]))

    def _held(self, recipe: Recipe) -> Ingredients:
        """The ingredients for a recipe, taken from the inventory; empty if some are missing."""
        held: list[tuple[str, int]] = []
        for name, count in recipe.ingredients:
            item = next((item for item in book().accepted(name) if self.inventory[item] >= count), None)
            if item is None:
                return ()
            held.append((item, count))
        return tuple(held)

    def close(self) -> None:
        """Nothing to free."""


def _fits(wanted: Recipe, recipe: Recipe) -> bool:
    """Whether an action is a use of a command. The number of products that it states does not matter."""
    if wanted.product != recipe.product or len(wanted.ingredients) != len(recipe.ingredients):
        return False
    offered = dict(wanted.ingredients)
    used = {
        next((item for item in book().accepted(name) if offered.get(item) == count), None)
        for name, count in recipe.ingredients
    }
    return used == offered.keys()


def _command(recipe: Recipe, ingredients: Iterable[tuple[str, int]]) -> str:
    return f"craft {recipe.count} {recipe.product} using " + ", ".join(f"{count} {name}" for name, count in ingredients)


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
        action = _command(*ways[item]) if item in ways else f"get {needs[item] - held} {item}"
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
    inline=True,
    writing=Writing(signs=",", lines=False),
    tools=(
        Tool("get", "get {number:int} {item}", "takes so many of a raw item from the world"),
        Tool(
            "craft",
            "craft {number:int} {item} using {ingredients}",
            "carries out one of the commands once; ingredients are written as in '2 oak planks, 1 stick'",
        ),
        Tool("inventory", "inventory", "tells what you hold"),
    ),
)
