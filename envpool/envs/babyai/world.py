"""The worlds of BabyAI: minigrid's, with actions and observations in words.

The numbering of tasks, the actions and the score are those of AgentGym's BabyAI (https://arxiv.org/abs/2406.04151), the
words are ours. Task `index` is level ``index % 40 + 1`` with seed ``index // 40``. The score is minigrid's:
``1 - 0.9 * steps / max_steps`` for the goal, 0 without it, where every primitive move of an action counts as a step.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from envpool.envs.babyai.view import Move, Thing, View
from envpool.errors import EnvPoolError, MissingExtra, UnknownTask
from envpool.spec import Facts
from envpool.types import Step

LEVELS = (
    *("GoToRedBallGrey", "GoToRedBall", "GoToRedBallNoDists", "GoToObjS6", "GoToLocalS8N7"),
    *("GoToObjMazeS7", "GoToImpUnlock", "GoToSeqS5R2", "GoToRedBlueBall", "GoToDoor"),
    *("GoToObjDoor", "Open", "OpenRedDoor", "OpenDoorLoc", "OpenRedBlueDoorsDebug"),
    *("OpenDoorsOrderN4Debug", "Pickup", "UnblockPickup", "PickupLoc", "PickupDistDebug"),
    *("PickupAbove", "PutNextLocalS6N4", "PutNextS7N4Carrying", "Unlock", "UnlockLocalDist"),
    *("KeyInBox", "UnlockPickupDist", "BlockedUnlockPickup", "UnlockToUnlock", "ActionObjDoor"),
    *("FindObjS7", "KeyCorridorS6R3", "OneRoomS20", "MoveTwoAcrossS8N9", "SynthS5R2"),
    *("SynthLoc", "SynthSeq", "MiniBossLevel", "BossLevel", "BossLevelNoUnlock"),
)
"""The names of levels 1 to 40, in AgentGym's order."""

_MINIGRID_IDS = {"GoToObjS6": "BabyAI-GoToObjS6-v1"}
_OPTIONS: dict[str, dict[str, int]] = {"GoToObjS6": {"room_size": 4}}  # its size when AgentTraj-L was recorded

_LAST_PART = {"BeforeInstr": "instr_b", "AfterInstr": "instr_a"}  # which part of minigrid's instruction comes last


class Refused(Exception):
    """An action is not possible now; the text says why."""


_ON_THING = re.compile(r"(go to|pick ?up|go through|toggle and go through) (.+ \d+)")


class BabyAI:
    """One BabyAI world."""

    def __init__(self) -> None:
        make_world(1)  # a missing extra is reported here, before any episode
        self.index = -1
        self.moves: list[Move] = []  # the primitive moves of the last action
        self._score = 0.0
        self._done = True

    def reset(self, index: int) -> str:
        """Starts a task and returns goal and view."""
        self.world = open_world(index)
        self.index = index
        self._look(self.world.gen_obs()["image"])  # what `reset` of minigrid returns is older than level 23's load
        self.moves, self._score, self._done = [], 0.0, False
        return f"Goal: {self.world.mission}.\n{self.view.text}"

    def _look(self, image: Any) -> None:
        carried = self.world.carrying
        self.view = View(image, f"{carried.color} {carried.type}" if carried else None)

    def step(self, action: str) -> Step:
        """Takes one action; one that is not possible is answered with the reason and costs no minigrid step."""
        if self.index < 0:
            raise EnvPoolError("babyai: reset comes before the first step")
        self.moves = []
        if self._done:
            return Step("The episode is over.", self._score, True)
        try:
            plan = self._plan(" ".join(action.lower().split()))
        except Refused as refusal:
            return Step(f"{refusal} {self.view.text}", 0.0, False)
        reward, terminated, truncated = 0.0, False, False
        for move in plan:
            before = tuple(self.world.agent_pos)
            seen, reward, terminated, truncated, _ = self.world.step(move)
            self.moves.append(move)
            blocked = move == Move.FORWARD and before == tuple(self.world.agent_pos)
            if terminated or truncated or blocked:
                break
        self._look(seen["image"])
        self._done = terminated or truncated
        self._score = float(reward)
        if not self._done:
            return Step(self.view.text, 0.0, False)
        ending = "Goal reached." if reward > 0 else "Goal failed." if terminated else "Out of time."
        return Step(ending, self._score, True)

    def available_actions(self) -> list[str]:
        """Every action that is possible now, nearest objects first."""
        candidates = [
            f"{verb} {thing.label}"
            for thing in self.view.things
            for verb in ("go to", "pick up", "go through", "toggle and go through")
        ]
        candidates += ["toggle", "drop", "move forward", "turn left", "turn right"]
        return [action for action in candidates if self.is_possible(action)]

    def is_possible(self, action: str) -> bool:
        """Whether an action would be carried out now rather than refused."""
        try:
            self._plan(action)
        except Refused:
            return False
        return True

    def close(self) -> None:
        """Nothing to free."""

    def _plan(self, action: str) -> list[Move]:
        simple = {
            "turn left": lambda: [Move.LEFT],
            "turn right": lambda: [Move.RIGHT],
            "move forward": self._forward,
            "toggle": self._toggle,
            "drop": self._drop,
        }
        if action in simple:
            return simple[action]()
        match = _ON_THING.fullmatch(action)
        if match is None:
            raise Refused("Unknown action.")
        verb, label = match.groups()
        thing = next((thing for thing in self.view.things if thing.label == label), None)
        if thing is None:
            raise Refused(f"No {label[:40]} in view.")
        if verb in ("pick up", "pickup"):
            return self._pick_up(thing)
        if verb == "go to":
            return self._route(thing) or [Move.WAIT]
        return self._go_through(thing, toggle=verb.startswith("toggle"))

    def _route(self, thing: Thing, *, onto: bool = False) -> list[Move]:
        route = self.view.route(thing, onto=onto) or self.view.route(thing, onto=onto, guess=True)
        if route is None:
            raise Refused(f"No way to {thing.label} in view.")
        return route[0]

    def _pick_up(self, thing: Thing) -> list[Move]:
        if thing.kind == "door":
            raise Refused("A door cannot be picked up.")
        if self.view.carrying:
            raise Refused("Your hands are full.")
        return [*self._route(thing), Move.PICKUP]

    def _go_through(self, door: Thing, *, toggle: bool) -> list[Move]:
        if door.kind != "door":
            raise Refused(f"{door.label} is no door.")
        colour, state, _ = door.name.split()
        if toggle == (state == "open"):
            raise Refused(f"The door is {state}.")
        if not toggle:
            return self._route(door, onto=True)
        self._check_key(colour, state)
        return [*self._route(door), Move.TOGGLE, Move.FORWARD]

    def _check_key(self, colour: str, state: str) -> None:
        if state == "locked" and self.view.carrying != f"{colour} key":
            raise Refused(f"The door is locked: carry a {colour} key.")

    def _forward(self) -> list[Move]:
        if not self.view.is_free(1, 0):
            raise Refused("The way is blocked.")
        return [Move.FORWARD]

    def _toggle(self) -> list[Move]:
        front = next((thing for thing in self.view.things if (thing.ahead, thing.right) == (1, 0)), None)
        if front is None or front.kind not in ("door", "box"):
            raise Refused("Nothing to open or close right ahead.")
        if front.kind == "door":
            colour, state, _ = front.name.split()
            self._check_key(colour, state)
        return [Move.TOGGLE]

    def _drop(self) -> list[Move]:
        if not self.view.carrying:
            raise Refused("You carry nothing.")
        if not self.view.is_empty(1, 0):
            raise Refused("There is no room right ahead.")
        return [Move.DROP]


def facts(index: int) -> Facts:
    """Level, name of the level and seed of a task."""
    if index < 0:
        raise UnknownTask(f"babyai has no task {index}: indices start at 0")
    level = index % len(LEVELS) + 1
    return {"level": level, "name": LEVELS[level - 1], "seed": index // len(LEVELS)}


def make_world(level: int) -> Any:
    """Builds minigrid's world of a level, without wrappers; it still has to be reset.

    Raises:
        MissingExtra: minigrid is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        gymnasium = importlib.import_module("gymnasium")
        rooms = importlib.import_module("minigrid.envs.babyai.core.roomgrid_level")
    except ModuleNotFoundError as error:
        raise MissingExtra("babyai", "minigrid", "babyai") from error
    vars(rooms)["print"] = lambda *words: None  # it prints every world that it rejects
    name = LEVELS[level - 1]
    world_id = _MINIGRID_IDS.get(name, f"BabyAI-{name}-v0")
    return gymnasium.make(world_id, disable_env_checker=True, **_OPTIONS.get(name, {})).unwrapped


def open_world(index: int) -> Any:
    """Builds the world of a task, ready to be played.

    minigrid judges the toggle that opens the first of two doors by the strict rule of the second as well, which nobody
    could pass (level 16); in ours only the first door is strict.
    """
    known = facts(index)
    world = make_world(int(known["level"]))
    world.reset(seed=int(known["seed"]))
    last = getattr(world.instrs, _LAST_PART.get(type(world.instrs).__name__, ""), None)
    if last is not None and getattr(last, "strict", False):
        last.strict = False
    return world
