"""The floor of every benchmark: a player that knows how actions are written, and nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

from envpool.calls import Toolbox
from envpool.errors import MalformedAction
from envpool.policy import Actor, Episode, Load
from envpool.schemas import JsonSchema, choices, options
from envpool.types import Call, Completion

LONGEST_PHRASE = 4
"""Words; the names of things in the embedded environments have no more."""

MOST_DRAWS = 8
"""How many calls are drawn until one fits the types of its tool."""

_BREAKS = re.compile(r"[\n.,:;!?()\"]+")
_NUMBER = re.compile(r"(?<![\w.])[0-9]{1,9}(?![\w.])")


class RandomPolicy:
    """Draws an action's kind, then its arguments; the same ones for the same seed, task, sample and conversation.

    All kinds (`EnvSpec.tools`) are drawn equally often. A text is a run of words, a number one of the numbers, that
    the conversation has shown so far. So it plays every environment, on every server, and is told no more than a
    model is: which actions are possible it does not know.

    Args:
        seed: another seed gives other actions.
        available: draws from what the environment says is possible now instead (`Session.available_actions`). In some
            environments that alone goes a long way, so it is no floor; it visits more, which is good for testing.
    """

    name = "random"

    def __init__(self, seed: int = 0, *, available: bool = False) -> None:
        self._seed = seed
        self._available = available

    def running(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Nothing to start."""
        return nullcontext()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens a player with its own random numbers."""
        rng = random.Random(f"{self._seed} {episode.task.item_id} {episode.sample}")
        yield _AvailableActor(episode, rng) if self._available else _RandomActor(episode, rng)


class _RandomActor:
    def __init__(self, episode: Episode, rng: random.Random) -> None:
        self._format = episode.format
        self._rng = rng
        self._tools = episode.spec.tools
        self._toolbox = Toolbox.of(episode.spec)
        self._lines: list[list[str]] = []
        self._numbers: list[str] = []

    async def act(self, observation: str) -> Completion:
        self._lines += [words for line in _BREAKS.split(observation) if (words := line.split())]
        self._numbers += _NUMBER.findall(observation)
        for _ in range(MOST_DRAWS):
            with suppress(MalformedAction):  # such as a number that is too large for a parameter
                return Completion(self._format.render("I act at random.", self._toolbox.text(self._call())))
        return Completion("I act at random, and every call that I drew was refused.")

    def _call(self) -> Call:
        tool = self._rng.choice(self._tools)
        arguments = {
            parameter.name: self._value(parameter.schema)
            for parameter in tool.parameters
            if not parameter.optional or self._rng.random() < 0.5
        }
        return Call(tool.name, arguments)

    def _value(self, schema: JsonSchema) -> Any:
        several = options(schema)
        schema = several[0] if len(several) == 1 else self._rng.choice(several)
        if allowed := choices(schema):
            return self._rng.choice(allowed)
        match schema.get("type"):
            case "integer" | "number":
                return int(self._rng.choice(self._numbers)) if self._numbers else 1
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case "array":
                return [self._value(schema.get("items", {}))]
            case "object":
                fields = schema.get("properties", {})
                needed = schema.get("required", ())
                drawn = [name for name in fields if name in needed or self._rng.random() < 0.5]
                return {name: self._value(fields[name]) for name in drawn}
        return self._phrase()

    def _phrase(self) -> str:
        words = self._rng.choice(self._lines) if self._lines else ["nothing"]
        length = self._rng.randint(1, min(len(words), LONGEST_PHRASE))
        start = self._rng.randint(0, len(words) - length)
        return " ".join(words[start : start + length])


class _AvailableActor:
    def __init__(self, episode: Episode, rng: random.Random) -> None:
        self._episode = episode
        self._rng = rng

    async def act(self, observation: str) -> Completion:
        actions = await self._episode.session.available_actions()
        return Completion(self._episode.format.render("I act at random.", self._rng.choice(actions)))
