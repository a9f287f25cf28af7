"""The environment under test: its sessions, and walks through it that can be repeated and compared."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from envpool.errors import EnvironmentFailed
from envpool.guard import read_step
from envpool.session import Session, Transport
from envpool.spec import EnvSpec
from envpool.types import Split, Step

CLOSE_SECONDS = 10.0
"""How long closing a session may take, also while everything around it is being cancelled."""

ANY_ACTIONS = ("look around", "inventory", "help", "move up")
"""Tried on servers that do not say which actions are possible; whether they mean anything there does not matter."""


class Failed(Exception):
    """A check failed; the text says why."""


class Skipped(Exception):
    """A check could not be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What was done in one session and what came of it."""

    index: int
    first: str
    actions: tuple[str, ...]
    steps: tuple[Step, ...]

    def must_equal(self, other: Walk, when: str) -> None:
        """Compares with the same actions taken elsewhere.

        Raises:
            Failed: something was answered differently.
        """
        if self.first != other.first:
            raise Failed(f"task {self.index}: another first observation {when}: {_apart(self.first, other.first)}")
        for number, (action, one, two) in enumerate(zip(self.actions, self.steps, other.steps, strict=False), 1):
            if one != two:
                what = f"task {self.index}, step {number} ({action!r})"
                raise Failed(f"{what}: another answer {when}: {_apart(str(one), str(two))}")


@dataclass(slots=True, kw_only=True)
class Subject:
    """An environment under test.

    Attributes:
        spec: its card.
        transport: where its sessions come from.
        count: how many tasks a check plays.
        steps: how many actions it takes in each, at most.
        sessions: how many sessions are open at once when that is checked.
        seed: of tasks and actions.
        known: the task indices that the server knows; None for all of the card.
        count_live: asks the server how many sessions it holds; None where nobody can be asked.
        tells: whether the server says which actions are possible, so far as is known.
    """

    spec: EnvSpec
    transport: Transport
    count: int
    steps: int
    sessions: int
    seed: int
    known: range | None = None
    count_live: Callable[[], Awaitable[int | None]] | None = None
    tells: bool = True

    def draw(self, split: Split, count: int) -> list[int]:
        """Draws tasks of a split, or fewer if it has fewer."""
        indices: Sequence[int] = self.spec.tasks(split)
        if self.known is not None:
            indices = [index for index in indices if index in self.known]
        return random.Random(f"{self.seed} {split}").sample(indices, min(count, len(indices)))

    def tasks(self, count: int | None = None) -> list[int]:
        """Draws tasks of all splits by turns.

        Raises:
            Failed: there is none.
        """
        wanted = self.count if count is None else count
        drawn = [self.draw(split, wanted) for split in Split]
        mixed = [indices[n] for n in range(wanted) for indices in drawn if n < len(indices)]
        if not mixed:
            raise Failed("no split has a task" + ("" if self.known is None else " that the server knows"))
        return mixed[:wanted]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Opens a session and closes it again.

        Raises:
            Failed: it does not close.
        """
        session = await self.transport.open(self.spec)
        try:
            yield session
        finally:
            try:
                with trio.fail_after(CLOSE_SECONDS, shield=True):
                    await session.aclose()
            except trio.TooSlowError:
                raise Failed(f"closing a session took more than {CLOSE_SECONDS:g} s") from None

    async def walk(self, session: Session, index: int) -> Walk:
        """Takes random actions, the same ones for the same task and seed."""
        rng = random.Random(f"{self.seed} {index}")
        first = text_of(await session.reset(index))
        actions, steps = [], []
        for _ in range(self.steps):
            actions.append(rng.choice(await self.actions(session)))
            steps.append(step_of(await session.step(actions[-1])))
            if steps[-1].done:
                break
        return Walk(index, first, tuple(actions), tuple(steps))

    async def repeat(self, session: Session, walk: Walk) -> Walk:
        """Takes the actions of a walk again."""
        first = text_of(await session.reset(walk.index))
        steps: list[Step] = []
        for action in walk.actions:
            if not (steps and steps[-1].done):
                steps.append(step_of(await session.step(action)))
        return Walk(walk.index, first, walk.actions, tuple(steps))

    async def actions(self, session: Session) -> Sequence[str]:
        """The possible actions; some that may mean nothing where a server does not tell."""
        if not self.tells:
            return ANY_ACTIONS
        try:
            found = await session.available_actions()
        except EnvironmentFailed:
            if session.environment is not None:
                raise
            self.tells = False  # and is not asked again: each refusal may cost a session
            return ANY_ACTIONS
        if not found:
            raise Failed("there are no available actions although the episode is not over")
        return found


def text_of(observation: object) -> str:
    """Checks a first observation.

    Raises:
        Failed: it is no text.
    """
    if not isinstance(observation, str) or not observation.strip():
        raise Failed(f"reset gave {observation!r}, not a text that says something")
    return observation


def step_of(step: object) -> Step:
    """Checks what an action caused.

    Raises:
        Failed: something about it is not as it should be.
    """
    try:
        return read_step(step, "step")
    except EnvironmentFailed as failure:
        raise Failed(f"step: {failure.cause}") from failure


def _apart(one: str, other: str) -> str:
    """Shows two texts from a little before the place where they part."""
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - 15)
    return f"{one[start : same + 25]!r} and {other[start : same + 25]!r}"
