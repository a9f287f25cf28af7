"""The expert of BabyAI: minigrid's own bot decides, its moves are said in our actions.

`BabyAIBot` plays a twin of the world and knows only what it has seen there. It plans primitive moves and keeps its
intentions on a stack. The expert reads from the top of that stack what the bot is heading for, takes the action after
which the fewest primitive moves remain, and then tells the bot which moves that was.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from envpool.envs.babyai.view import Move, Pose, Thing
from envpool.envs.babyai.world import BabyAI, open_world

# as Any, because minigrid's functions have no types
bots: Any = importlib.import_module("minigrid.utils.baby_ai_bot")
verifier: Any = importlib.import_module("minigrid.envs.babyai.core.verifier")

Cell = tuple[int, int]

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # minigrid's directions 0 to 3
_SEARCHES = 100  # that the bot may make for one move; 20 are many, but it can fall into an endless loop
_WORDS = {
    Move.LEFT: "turn left",
    Move.RIGHT: "turn right",
    Move.FORWARD: "move forward",
    Move.DROP: "drop",
    Move.TOGGLE: "toggle",
    Move.WAIT: "turn left",
}


def play(env: BabyAI) -> Iterator[tuple[str, str]]:
    """Plays from the first observation on; yields (thought, action), nothing more when the bot is at its wits' end."""
    try:
        guide = _Guide(env)
        while True:
            yield guide.advise()
            guide.follow(env.moves)
    except _AtWitsEnd:
        return


class _AtWitsEnd(Exception):
    """The bot has no plan."""


class _Bot(bots.BabyAIBot):  # type: ignore[misc]
    """minigrid's bot with cures for the levels that it cannot play by itself.

    Args:
        world: the world to play.
        seen: what an earlier bot saw before it lost its way, a mask over the grid.
    """

    def __init__(self, world: Any, seen: Any = None) -> None:
        super().__init__(world)
        self._last_search = 0
        if isinstance(world.instrs, verifier.PutNextInstr) and world.carrying in world.instrs.desc_move.obj_set:
            del self.stack[-2:]  # go there and pick up: but what it is to fetch is in its hands already
        boxes = verifier.ObjDesc("box")
        boxes.find_matching_objs(world)
        if any(box.contains for box in boxes.obj_set):
            self.stack.append(bots.GoNextToSubgoal(self, boxes))  # the key is in there, which the bot would not guess
        if seen is not None:
            self.vis_mask = seen
            self._try_another_door()

    def _try_another_door(self) -> None:
        # the bot explores behind the nearest locked door, also if the key to it can only be behind another one
        grid = self.mission.grid
        cells = [grid.get(x, y) for x in range(grid.width) for y in range(grid.height) if self.vis_mask[x, y]]
        things = [thing for thing in (*cells, self.mission.carrying) if thing is not None]
        keys = {thing.color for thing in things if thing.type == "key"}
        doors = [thing for thing in things if thing.type == "door" and thing.is_locked and thing.color in keys]
        if doors:
            self.stack += [bots.OpenSubgoal(self), bots.GoNextToSubgoal(self, doors[0], reason="Open")]

    def replan(self, action_taken: Move | None = None) -> Any:
        self._last_search = self.bfs_counter + _SEARCHES
        return super().replan(action_taken)

    def _breadth_first_search(self, *args: Any, **options: Any) -> Any:
        if self.bfs_counter >= self._last_search:
            raise _AtWitsEnd
        return super()._breadth_first_search(*args, **options)


class _Guide:
    """Says what the bot wants in the actions of the environment."""

    def __init__(self, env: BabyAI) -> None:
        self._env = env
        self._twin = open_world(env.index)
        self._bot = _Bot(self._twin)
        self._wish = self._ask(None)

    def _ask(self, taken: Move | None) -> Move:
        front = self._at(*self._absolute((1, 0, 0))[:2])
        if front is not None and front.type == "box" and front.contains:
            return Move.TOGGLE
        for _ in range(2):
            try:
                wish = Move(self._bot.replan(taken))
            except (AssertionError, _AtWitsEnd):
                wish = None
            if wish is not None and (wish != Move.PICKUP or front is not None):
                return wish
            self._bot, taken = _Bot(self._twin, self._bot.vis_mask), None
        raise _AtWitsEnd

    def follow(self, moves: list[Move]) -> None:
        """Tells the bot what was done."""
        for move in moves:
            wish = self._wish
            self._twin.step(move)
            if move == wish == Move.WAIT:  # it believes that all is done, but the goal is not reached
                self._bot = _Bot(self._twin, self._bot.vis_mask)
            self._wish = self._ask(None if move == wish else move)

    def advise(self) -> tuple[str, str]:
        """The thought and the action that serve the bot's intention best."""
        verb, thing = self._choose()
        goal, thought = self._goal()
        if thing is None:
            return thought, verb
        if thing.label != goal:
            thought += f" First {thing.label}: in view."
        return thought, f"{verb} {thing.label}"

    def _choose(self) -> tuple[str, Thing | None]:
        things = {self._absolute((thing.ahead, thing.right, 0))[:2]: thing for thing in self._env.view.things}
        front = things.get(self._absolute((1, 0, 0))[:2])
        if self._wish == Move.PICKUP and front:
            return "pick up", front
        if self._wish == Move.TOGGLE and front and self._opens(front):
            return "toggle and go through", front
        if self._wish == Move.WAIT and front:
            return "go to", front
        walk = self._walk(things) if self._wish in (Move.LEFT, Move.RIGHT, Move.FORWARD) else None
        return walk or (_WORDS[self._wish], None)

    def _walk(self, things: dict[Cell, Thing]) -> tuple[str, Thing] | None:
        heading = self._heading()
        if heading is None:
            return None
        cell, beside = heading
        direct = self._directly(things[cell]) if cell in things and not beside else None
        if direct:
            return direct
        left = self._moves_left(cell, beside)
        here = left.get(self._absolute((0, 0, 0)))
        if here is None:
            return None
        best, chosen = here - 1, None  # a primitive move gets that near
        for thing in things.values():
            for verb, onto in (("go to", False), ("go through", True))[: 1 + (" open " in thing.name)]:
                route = self._env.view.route(thing, onto=onto)
                after = left.get(self._absolute(route[1])) if route and route[0] else None
                if after is not None and after < best:
                    best, chosen = after, (verb, thing)
        return chosen

    def _directly(self, thing: Thing) -> tuple[str, Thing] | None:
        route = self._env.view.route(thing)
        if route is None or not route[0]:
            return None
        then = self._bot.stack[-2] if len(self._bot.stack) > 1 else None
        if isinstance(then, bots.PickupSubgoal) and not self._twin.carrying:
            return "pick up", thing
        if isinstance(then, bots.OpenSubgoal) and self._opens(thing):
            return "toggle and go through", thing
        return "go to", thing

    def _opens(self, thing: Thing) -> bool:
        return self._env.is_possible(f"toggle and go through {thing.label}")

    def _heading(self) -> tuple[Cell, bool] | None:
        """The cell that the bot wants to face, and whether it is a cell beside that one that it wants to face."""
        goal = self._bot.stack[-1] if self._bot.stack else None
        if not isinstance(goal, bots.GoNextToSubgoal):
            return None
        beside = goal.reason == "PutNext"
        if isinstance(goal.datum, verifier.ObjDesc):
            _, cell = self._bot._find_obj_pos(goal.datum, beside)
        else:
            cell = getattr(goal.datum, "cur_pos", goal.datum)
        return None if cell is None else ((int(cell[0]), int(cell[1])), beside)

    def _moves_left(self, target: Cell, beside: bool) -> dict[Pose, int]:
        """For every pose in the part of the world that was seen, how many moves it takes to face the target."""
        faced = [target]
        if beside:
            around = [(target[0] + dx, target[1] + dy) for dx, dy in _STEPS]
            faced = [cell for cell in around if self._is_free(*cell) and self._at(*cell) is None]
        left = {
            (x - dx, y - dy, turned): 0
            for x, y in faced
            for turned, (dx, dy) in enumerate(_STEPS)
            if self._is_free(x - dx, y - dy)
        }
        queue = list(left)
        for x, y, turned in queue:
            dx, dy = _STEPS[turned]
            before = [(x, y, (turned + 1) % 4), (x, y, (turned + 3) % 4)]
            before += [(x - dx, y - dy, turned)] * self._is_free(x - dx, y - dy)
            for pose in before:
                if pose not in left:
                    left[pose] = left[x, y, turned] + 1
                    queue.append(pose)
        return left

    def _is_free(self, x: int, y: int) -> bool:
        if not (0 <= x < self._twin.width and 0 <= y < self._twin.height and self._bot.vis_mask[x, y]):
            return False
        thing = self._at(x, y)
        return thing is None or (thing.type == "door" and thing.is_open)

    def _at(self, x: int, y: int) -> Any:
        return self._twin.grid.get(x, y)

    def _absolute(self, pose: Pose) -> Pose:
        ahead, right, turned = pose
        (x, y), direction = self._twin.agent_pos, int(self._twin.agent_dir)
        dx, dy = _STEPS[direction]
        return int(x) + ahead * dx - right * dy, int(y) + ahead * dy + right * dx, (direction + turned) % 4

    def _goal(self) -> tuple[str, str]:
        """The object that the mission asks for now, as the view labels it if it is in view, and a thought on it."""
        wanted = self._wanted()
        for thing in self._env.view.things:
            there = self._at(*self._absolute((thing.ahead, thing.right, 0))[:2])
            if any(there is one for one in wanted.obj_set):
                return thing.label, f"Goal {thing.label}: in view."
        words = f"{wanted.color or ''} {wanted.type or 'object'}".strip()
        return words, f"Goal {words}: not seen."

    def _wanted(self) -> Any:
        part = self._twin.instrs
        while isinstance(part, verifier.SeqInstr):
            if isinstance(part, verifier.AfterInstr):
                part = part.instr_a if part.b_done == "success" else part.instr_b
            else:
                part = part.instr_b if part.a_done == "success" else part.instr_a
        if isinstance(part, verifier.PutNextInstr):
            return part.desc_fixed if self._twin.carrying in part.desc_move.obj_set else part.desc_move
        return part.desc
