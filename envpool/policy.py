"""Who answers: the protocol between the pool and a mind, and the minds that need no model.

A *policy* opens one *actor* per episode. The actor is told what the environment says and answers with a
completion; whatever it remembers of the conversation is its own business (a local model keeps keys and
values, a remote one the messages).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from envpool.errors import EnvPoolError, PolicyFailed
from envpool.formats import ActionFormat
from envpool.session import Session
from envpool.spec import EnvSpec
from envpool.types import Completion, Message, Task


@dataclass(frozen=True, slots=True)
class Episode:
    """What an actor may know of the episode that it is to play.

    Attributes:
        task: the problem.
        sample: which of the tries at this task.
        spec: the card of the environment.
        format: how thought and action are written.
        session: the live session; only experts, and random players that ask for possible actions, look at it.
    """

    task: Task
    sample: int
    spec: EnvSpec
    format: ActionFormat
    session: Session


class Load(Protocol):
    """How busy the pool is."""

    @property
    def live(self) -> int:
        """How many episodes are being played now, those that wait for their policy included."""

    async def wait_change(self) -> None:
        """Returns after the next change of `live`."""


class Actor(Protocol):
    """Plays one episode."""

    async def act(self, observation: str) -> Completion:
        """Answers what the environment said; the first observation comes with the instructions.

        Raises:
            ContextFull: there is no room for another turn.
        """


@runtime_checkable
class Policy(Protocol):
    """Whatever answers a conversation with an action."""

    @property
    def name(self) -> str:
        """How trajectories name this policy."""

    def running(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Entered once for a whole `EnvPool.run`, around all actors; what serves them all lives here."""

    def actor(self, episode: Episode) -> AbstractAsyncContextManager[Actor]:
        """Opens the actor of one episode."""


PolicyFunction = Callable[[Sequence[Message]], Awaitable[str]]
"""The simplest policy: an async function from the conversation so far to the answer."""


class FunctionPolicy:
    """Makes a policy of an async function that is given the conversation and returns the answer."""

    def __init__(self, function: PolicyFunction, name: str | None = None) -> None:
        self._function = function
        self.name = name or str(getattr(function, "__name__", "function"))

    def running(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Nothing to start."""
        return nullcontext()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens an actor that remembers the conversation."""
        yield _FunctionActor(self._function)


class _FunctionActor:
    def __init__(self, function: PolicyFunction) -> None:
        self._function = function
        self._conversation: list[Message] = []

    async def act(self, observation: str) -> Completion:
        self._conversation.append(Message("user", observation))
        text = await self._function(tuple(self._conversation))
        if not isinstance(text, str):
            raise PolicyFailed("act", f"expected the answer as str, got {type(text).__name__}")
        self._conversation.append(Message("assistant", text))
        return Completion(text)


class ExpertPolicy:
    """Plays every environment with that environment's own expert."""

    name = "expert"

    def running(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Nothing to start."""
        return nullcontext()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens the expert; it looks at the environment itself, so the session must be in this process.

        Raises:
            EnvPoolError: the environment has no expert or lives elsewhere.
        """
        if episode.spec.expert is None:
            raise EnvPoolError(f"{episode.spec.name} has no expert")
        if episode.session.environment is None:
            raise EnvPoolError(f"the expert of {episode.spec.name} needs the environment in this process")
        yield _ExpertActor(episode.spec.expert(episode.session.environment), episode.format)


class _ExpertActor:
    def __init__(self, moves: Iterator[tuple[str, str]], format: ActionFormat) -> None:
        self._moves = moves
        self._format = format

    async def act(self, observation: str) -> Completion:
        move = next(self._moves, None)
        if move is None:
            raise PolicyFailed("act", "the expert knows no further action")
        return Completion(self._format.render(*move))


PolicyLike = Policy | PolicyFunction


def as_policy(policy: PolicyLike) -> Policy:
    """Returns `policy` itself, or a `FunctionPolicy` around a plain async function."""
    return policy if isinstance(policy, Policy) else FunctionPolicy(policy)
