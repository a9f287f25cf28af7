"""The sessions of a server: who is there, whose turn it is, who has been away for too long."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from envpool.errors import EnvironmentFailed, EnvPoolError, SessionLost, UnknownTask
from envpool.places.hosts import Host
from envpool.places.session import PlacedSession, open_session
from envpool.server.answers import KEPT_ANSWERS, SESSION_BYTES, Answers, Kind, Refused, Shelf
from envpool.server.asyncio_loop import AsyncioLoop
from envpool.spec import EnvSpec
from envpool.types import Info

T = TypeVar("T")

logger = logging.getLogger("envpool.server")

CLOSE_SECONDS = 1.0
"""How long the environments may take to close when the server ends."""

_ANY_TEXT = ("utf-8", "surrogatepass")
"""The encoding that takes every text which JSON can bring."""


@dataclass(frozen=True, slots=True)
class State:
    """What a session has last seen.

    Attributes:
        observation: the last one.
        score: of the episode so far.
        gained: what the last action added to it.
        done: whether the episode is over.
        started: whether there is an episode.
        info: what the environment said besides.
    """

    observation: str = ""
    score: float = 0.0
    gained: float = 0.0
    done: bool = False
    started: bool = False
    info: Info = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Live:
    hosted: PlacedSession
    used: float
    state: State  # without the observation
    answers: Answers
    seen: bytes = b""  # the observation: as a str, one wide sign makes it four times as large
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: bool = False


class SessionTable:
    """The live sessions of one environment.

    Calls of one session are made one after the other, in the order in which they came.

    Args:
        spec: the card of the environment, which may limit how many there are, and are built, at once.
        host: where they live.
        loop: the event loop.
        max_sessions: how many there may be, if the card allows as many.
        idle_seconds: how long a session may go unused before `reap` closes it.
        clock: tells the time in seconds.

    Attributes:
        max_sessions: how many there may be.
        created: how many were opened, ever.
        closed: how many were closed, ever.
        shelf: the answers that are kept.
    """

    def __init__(
        self,
        spec: EnvSpec,
        host: Host,
        loop: AsyncioLoop,
        *,
        max_sessions: int,
        idle_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.max_sessions = min(max_sessions, spec.most_sessions or max_sessions)
        self.created = self.closed = 0
        self.shelf = Shelf()
        self._host = host
        self._loop = loop
        self._building = nullcontext() if spec.most_building is None else asyncio.Semaphore(spec.most_building)
        self._fresh = State(score=spec.initial_score)
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._sessions: dict[int, _Live] = {}
        self._opening = 0
        self._leaving: set[asyncio.Task[None]] = set()

    async def try_out(self) -> None:
        """Opens a session in every process of the host and closes them, which also loads what they need.

        Raises:
            EnvPoolError: one could not be opened.
        """
        opened = await asyncio.gather(*(self._open() for _ in range(self._host.workers)), return_exceptions=True)
        for session in opened:
            if isinstance(session, PlacedSession):
                await session.aclose()
        for session in opened:
            if isinstance(session, BaseException):
                raise session

    @property
    def abandoned(self) -> int:
        """How many were left alone in a call that hung; the thread of each is there until its call comes back."""
        return self._loop.hung

    def __len__(self) -> int:
        """How many sessions there are, lost ones included; may be asked in any thread."""
        return len(self._sessions)

    def count(self) -> int:
        """How many sessions are live; those that were lost are forgotten here."""
        for number in [number for number, session in self._sessions.items() if session.hosted.lost]:
            self._leave_alone(number)
        return len(self._sessions)

    async def create(self) -> int:
        """Opens a session and returns its id.

        Raises:
            Refused: there is no room, or the environment could not be built.
        """
        # `count` looks at every session, which is only worth it when there seems to be no room
        if len(self._sessions) + self._opening >= self.max_sessions <= self.count() + self._opening:
            raise Refused(Kind.FULL, f"All {self.max_sessions} sessions of this server are taken.")
        self._opening += 1
        try:
            hosted = await self._open()
        except SessionLost as failure:
            raise Refused(Kind.UNAVAILABLE, failure.cause) from failure
        except EnvironmentFailed as failure:
            raise Refused(Kind.ENVIRONMENT_FAILED, failure.cause) from failure
        except EnvPoolError as failure:
            raise Refused(Kind.ENVIRONMENT_FAILED, str(failure)) from failure
        finally:
            self._opening -= 1
        number = self._new_number()
        self.created += 1
        answers = Answers(self.shelf, KEPT_ANSWERS, SESSION_BYTES)
        self._sessions[number] = _Live(hosted, self._clock(), self._fresh, answers)
        return number

    async def _open(self) -> PlacedSession:
        async with self._building:
            return await open_session(self._host, self._loop)

    async def reset(self, number: int, index: int) -> State:
        """Starts a task.

        Raises:
            Refused: there is no such session or task, or the environment failed.
        """

        async def work(session: _Live) -> State:
            session.state = self._fresh  # what remains if there is no such task
            observation = await session.hosted.reset(index)
            return State(observation, self._fresh.score, started=True)

        return await self._play(number, work)

    async def step(self, number: int, action: str) -> State:
        """Takes an action.

        Raises:
            Refused: there is no such session, no episode or one that is over, or the environment failed.
        """

        async def work(session: _Live) -> State:
            before = _started(number, session.state)
            if before.done:
                raise Refused(Kind.FINISHED, f"The task with environment {number} has finished.")
            step = await session.hosted.step(action)
            return State(
                step.observation, step.score, step.score - before.score, step.done, started=True, info=step.info
            )

        return await self._play(number, work)

    async def available_actions(self, number: int) -> Sequence[str]:
        """Some actions that are possible now.

        Raises:
            Refused: there is no such session, or the environment failed.
        """
        return await self._within(number, lambda session: session.hosted.available_actions())

    def look(self, number: int) -> State:
        """What a session has last seen.

        Raises:
            Refused: there is no such session, or it has seen nothing.
        """
        session = self._find(number)
        session.used = self._clock()
        return replace(_started(number, session.state), observation=session.seen.decode(*_ANY_TEXT))

    def answers(self, number: int) -> Answers:
        """The kept answers of a session.

        Raises:
            Refused: there is no such session.
        """
        return self._find(number).answers

    def find_answers(self, number: int) -> Answers | None:
        """The kept answers of a session; None if there is no such session."""
        session = self._sessions.get(number)
        return session.answers if session else None

    async def close(self, number: int) -> bool:
        """Closes a session; returns whether there was one.

        Raises:
            Refused: the environment failed in closing; the session is gone nevertheless.
        """
        session = self._forget(number)
        if session is None:
            return False
        self.closed += 1
        try:
            await _end(session)
        except SessionLost:
            return False
        except EnvironmentFailed as failure:
            raise Refused(Kind.ENVIRONMENT_FAILED, failure.cause) from failure
        return True

    async def reap(self) -> None:
        """Closes the sessions that nobody has used for too long."""
        self.count()
        latest = self._clock() - self._idle_seconds
        idle = [n for n, session in self._sessions.items() if session.used < latest and not session.lock.locked()]
        await self._close_all(idle)

    async def reap_forever(self) -> None:
        """Reaps again and again, often enough that no session is idle for much more than its time."""
        while True:
            await asyncio.sleep(min(30.0, self._idle_seconds / 4))
            await self.reap()

    async def aclose(self) -> None:
        """Closes all sessions, for a short time, and frees the host."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.close_all()
                await asyncio.gather(*self._leaving)
        except TimeoutError:
            logger.warning("some environments took more than %g s to close", CLOSE_SECONDS)
        await self._host.aclose(self._loop)

    async def close_all(self) -> None:
        """Closes all sessions."""
        await self._close_all(list(self._sessions))

    async def _close_all(self, numbers: Sequence[int]) -> None:
        for outcome in await asyncio.gather(*map(self.close, numbers), return_exceptions=True):
            if isinstance(outcome, Refused):
                logger.warning("a session did not close: %s", outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _play(self, number: int, work: Callable[[_Live], Awaitable[State]]) -> State:
        async def keep(session: _Live) -> State:
            state = await work(session)
            session.state, session.seen = replace(state, observation=""), state.observation.encode(*_ANY_TEXT)
            return state

        return await self._within(number, keep)

    async def _within(self, number: int, work: Callable[[_Live], Awaitable[T]]) -> T:
        """Does something with a session while nobody else does."""
        session = self._find(number)
        async with session.lock:
            if session.closed:
                raise _unknown(number)
            try:
                return await work(session)
            except UnknownTask as error:
                raise Refused(Kind.UNKNOWN_TASK, str(error)) from error
            except SessionLost as failure:
                self._leave_alone(number)
                raise _unknown(number) from failure
            except EnvironmentFailed as failure:
                session.state = self._fresh  # who knows what it is like now
                if session.hosted.lost:
                    self._leave_alone(number)
                raise Refused(Kind.ENVIRONMENT_FAILED, failure.cause) from failure
            finally:
                session.used = self._clock()

    def _leave_alone(self, number: int) -> None:
        """Forgets a session that is lost. What is left of it is freed when that is possible."""
        session = self._forget(number)
        if session is not None:
            task = asyncio.create_task(_free(session.hosted))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _forget(self, number: int) -> _Live | None:
        session = self._sessions.pop(number, None)
        if session is not None:
            session.answers.clear()
        return session

    def _new_number(self) -> int:
        """Draws a number that nobody can guess, below 2**53, which every JSON parser can read."""
        while True:
            number = secrets.randbits(53)
            if number not in self._sessions:
                return number

    def _find(self, number: int) -> _Live:
        session = self._sessions.get(number)
        if session is None:
            raise _unknown(number)
        return session


async def _free(hosted: PlacedSession) -> None:
    with suppress(EnvPoolError):
        await hosted.aclose()


async def _end(session: _Live) -> None:
    async with session.lock:
        session.closed = True
        await session.hosted.aclose()


def _started(number: int, state: State) -> State:
    if not state.started:
        raise Refused(Kind.NOT_STARTED, f"The environment {number} has no task: reset comes first.")
    return state


def _unknown(number: int) -> Refused:
    return Refused(Kind.UNKNOWN_SESSION, f"The id {number} is not valid.")
