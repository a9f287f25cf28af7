"""Who answers: the protocol between the pool and a mind, and the minds that need no model.

A *policy* opens one *actor* per episode. The actor is told what the environment says and answers with a
completion; whatever it remembers of the conversation is its own business (a local model keeps keys and
values, a remote one the messages).
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import trio

from envpool.errors import EnvPoolError, PolicyFailed
from envpool.formats import ActionFormat
from envpool.session import Session
from envpool.spec import EnvSpec
from envpool.types import Action, Completion, Message, Schema, Task, Turn, conversation, exchange, opening


@dataclass(frozen=True, slots=True)
class Episode:
    """What an actor may know of the episode that it is to play.

    Attributes:
        task: the problem.
        sample: which of the tries at this task.
        spec: the card of the environment.
        format: how thought and action are written.
        session: the live session; only experts, and random players that ask for possible actions, look at it.
        prompt: the instructions.
        observation: the first observation.
        turns: the turns so far; the list grows.
        tools: the tools that are offered as data, in the format ``native``; empty in all others.
    """

    task: Task
    sample: int
    spec: EnvSpec
    format: ActionFormat
    session: Session
    prompt: str = ""
    observation: str = ""
    turns: Sequence[Turn] = ()
    tools: Sequence[Schema] = ()

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, as `conversation` writes it."""
        return conversation(self.prompt, self.observation, self.turns, self.tools)


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

        Where tools are offered as data (`Episode.tools`), `Episode.messages` tells the same message by message.

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


PolicyFunction = Callable[[Sequence[Message]], Awaitable[str] | str]
"""The simplest policy: a function, async or not, from the conversation so far to the answer."""

LEAVING_SECONDS = 5.0
"""How long functions of asyncio may take to end when a run does."""


class FunctionPolicy:
    """Makes a policy of a function that is given the conversation and returns the answer.

    An async function runs in trio, like the pool. One that turns out to need asyncio is called again in a loop of
    asyncio, in a thread of its own, and so are all further calls of the run. A function that is not async is called in
    a thread, one call at a time.
    """

    def __init__(self, function: PolicyFunction, name: str | None = None) -> None:
        self._function = function
        self.name = name or str(getattr(function, "__name__", "function"))
        call = getattr(function, "__call__", None)  # noqa: B004 - that of an object may be async
        self._plain = not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call))
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._asyncio: _AsyncioThread | None = None
        self._runs = 0

    @asynccontextmanager
    async def running(self, load: Load) -> AsyncIterator[None]:
        """Ends what the function does in asyncio when the run ends."""
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1
            if self._asyncio is not None and not self._runs:
                thread, self._asyncio = self._asyncio, None
                with trio.CancelScope(shield=True):
                    await thread.aclose()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens an actor that gives the function the conversation."""
        yield _FunctionActor(self._answer, episode)

    async def _answer(self, conversation: Sequence[Message]) -> object:
        found: object = None
        if self._plain:
            (found,) = await trio.to_thread.run_sync(
                lambda: (self._function(conversation),),  # trio refuses to return what can be awaited
                abandon_on_cancel=True,
                limiter=self._one_at_a_time,
            )
            if not inspect.isawaitable(found):
                return found
        if self._asyncio is None:
            try:
                return await (found if inspect.isawaitable(found) else self._called(conversation))
            except (RuntimeError, TypeError) as error:
                if not _needs_asyncio(error):
                    raise
            self._asyncio = self._asyncio or _AsyncioThread()
        elif inspect.iscoroutine(found):
            found.close()  # it is made anew in the loop that it needs
        return await self._asyncio.call(self._called, conversation)

    async def _called(self, conversation: Sequence[Message]) -> object:
        found = self._function(conversation)
        return await found if inspect.isawaitable(found) else found


def _needs_asyncio(error: Exception) -> bool:
    """Whether a function failed because it wants asyncio, in the words of asyncio and trio."""
    words = ("no running event loop", "There is no current event loop", "unrecognized yield message")
    return any(each in str(error) for each in words)


class _AsyncioThread:
    """A loop of asyncio in a thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="asyncio policy", daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._end.wait()

    async def call(self, function: Callable[[Sequence[Message]], Awaitable[object]], what: Sequence[Message]) -> object:
        """Calls an async function there; cancelling the call cancels the function."""
        token, done = trio.lowlevel.current_trio_token(), trio.Event()

        async def work() -> object:
            try:
                return await function(what)
            except (SystemExit, KeyboardInterrupt) as error:  # would end the loop and leave all others waiting
                raise PolicyFailed("act", f"the policy raised {type(error).__name__}") from error

        def tell(future: Future[object]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        future.add_done_callback(tell)
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        return future.result()

    async def aclose(self) -> None:
        """Cancels what still runs and ends the loop; a function that does not let itself be cancelled is left alone."""
        self._loop.call_soon_threadsafe(self._end.set)
        await trio.to_thread.run_sync(self._thread.join, LEAVING_SECONDS)


class _FunctionActor:
    def __init__(self, answer: Callable[[Sequence[Message]], Awaitable[object]], episode: Episode) -> None:
        self._answer = answer
        self._episode = episode
        self._conversation = opening(episode.prompt, episode.observation, episode.tools)
        self._read = 0  # turns that are in the conversation

    async def act(self, observation: str) -> Completion:
        turns, read, tools = self._episode.turns, self._read, self._episode.tools
        if len(turns) == read + 1 and not tools:  # the usual, without a list in between
            self._conversation.append(Message("assistant", turns[read].completion.text))
            self._conversation.append(Message("user", turns[read].observation))
        else:
            for turn in turns[read:]:
                self._conversation += exchange(turn, tools)
        self._read = len(turns)
        text = await self._answer(tuple(self._conversation))
        if not isinstance(text, str):
            raise PolicyFailed("act", f"expected the answer as str, got {type(text).__name__}")
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
    def __init__(self, moves: Iterator[tuple[str, Action]], format: ActionFormat) -> None:
        self._moves = moves
        self._format = format

    async def act(self, observation: str) -> Completion:
        move = next(self._moves, None)
        if move is None:
            raise PolicyFailed("act", "the expert knows no further action")
        return Completion(self._format.render(*move))


PolicyLike = Policy | PolicyFunction


def as_policy(policy: PolicyLike) -> Policy:
    """Returns `policy` itself, or a `FunctionPolicy` around a function.

    Raises:
        EnvPoolError: it is neither.
    """
    if isinstance(policy, Policy):
        return policy
    if not callable(policy):
        raise EnvPoolError(
            f"{policy!r:.80} is neither a policy nor a function: give a function from the conversation to the answer"
        )
    return FunctionPolicy(policy)
