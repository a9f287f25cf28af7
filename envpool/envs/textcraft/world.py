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

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from envpool.envs.textcraft.book import Ingredients, Recipe, book, parse_recipe
from envpool.errors import EnvPoolError, UnknownTask, did_you_mean
from envpool.types import Split, Step

VARIANTS = 101
MAX_DISTRACTORS = 10
_GET = re.compile(r"get ([1-9][0-9]{0,3}) (.+)")


def locate(index: int) -> tuple[int, int]:
    """Variant and rank of a task."""
    goals = len(book().goals)
    if not 0 <= index < VARIANTS * goals:
        raise UnknownTask(f"textcraft has no task {index}: they are numbered 0 to {VARIANTS * goals - 1}")
    return divmod(index, goals)


def distractors(variant: int) -> int:
    """How many commands of a task its goal does not need."""
    return 0 if variant == 0 else 1 + (variant - 1) // 5 % MAX_DISTRACTORS


def split_of(variant: int, rank: int) -> Split:
    """The split of a task."""
    place = (variant or rank) % 5
    return Split.TRAIN if place == 0 else Split.EVAL if place == 4 else Split.EXPLORE


def _draw(index: int) -> tuple[list[Recipe], str]:
    """The commands and the goal of a task. Every item needed comes with one way to make it, at its depth."""
    variant, rank = locate(index)
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
    if count := distractors(variant):
        share = list(Split).index(split_of(variant, rank))
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
        crafts = [command(recipe, held) for recipe in self.commands if (held := self._held(recipe))]
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


def command(recipe: Recipe, ingredients: Iterable[tuple[str, int]]) -> str:
    """Writes the action that carries a recipe out."""
    return f"craft {recipe.count} {recipe.product} using " + ", ".join(f"{count} {name}" for name, count in ingredients)
