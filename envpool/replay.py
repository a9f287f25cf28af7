"""Sessions that survive their loss: what was played is played again, and must be answered as before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from envpool.errors import EnvironmentFailed, ReplayMismatch, SessionLost
from envpool.session import Session
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.types import Action, Step

T = TypeVar("T")


class ReplayingSession:
    """A session that is opened anew when it fails, and brought back to where it was.

    Only an environment that is deterministic is played again after its first action. The observations and scores of
    the second playing are compared with those of the first.

    Args:
        spec: the card of the environment.
        session: the session to start with; None to have `begin` open it.
        open: opens another one.
        replays: how often to try that, at most, for one call.
        recorder: where failures and replays are counted.
    """

    def __init__(
        self,
        spec: EnvSpec,
        session: Session | None,
        open: Callable[[], Awaitable[Session]],
        *,
        replays: int,
        recorder: Recorder | None,
    ) -> None:
        self._spec = spec
        self._session = session
        self._open = open
        self._replays = self._left = replays
        self._recorder = recorder
        self._index: int | None = None
        self._first = ""
        self._steps: list[tuple[Action, Step]] = []
        self._closed = False

    @property
    def environment(self) -> None:
        """It lives elsewhere."""
        return None

    async def begin(self) -> None:
        """Opens the session, again if it is lost meanwhile.

        Raises:
            EnvPoolError: it could not be opened.
        """

        async def nothing(session: Session) -> None:
            pass

        await self._survive(nothing)

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation.

        Raises:
            EnvironmentFailed: it failed, and so did the attempts to begin anew.
        """
        self._index, self._steps = None, []
        self._first = await self._survive(lambda session: session.reset(index))
        self._index = index
        return self._first

    async def step(self, action: Action) -> Step:
        """Takes one action.

        Raises:
            EnvironmentFailed: it failed, and so did the attempts to play again up to here, or there may be none.
            ReplayMismatch: played again, the environment answered something else.
        """
        step = await self._survive(lambda session: session.step(action))
        self._steps.append((action, step))
        return step

    async def available_actions(self) -> Sequence[str]:
        """Some actions that are possible now.

        Raises:
            EnvironmentFailed: the environment does not say, or it failed, and so did the attempts to play again.
        """
        return await self._survive(lambda session: session.available_actions())

    async def aclose(self) -> None:
        """Frees the instance."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def _survive(self, call: Callable[[Session], Awaitable[T]]) -> T:
        self._left = self._replays
        while True:
            try:
                return await call(await self._live())
            except EnvironmentFailed as failure:
                may_replay = self._index is None or self._spec.deterministic
                if failure.final or self._closed or not self._left or not may_replay:
                    raise
                self._left -= 1
                if self._recorder:
                    self._recorder.failed(failure)
                await self._give_up()

    async def _live(self) -> Session:
        """The session, or another one in the same state if it was lost."""
        if self._closed:
            raise SessionLost("closed", "the session was closed before")
        if self._session is None:
            self._session = await self._open()
            if self._index is not None:
                if self._recorder:
                    self._recorder.replays += 1
                await self._replay(self._session, self._index)
        return self._session

    async def _replay(self, session: Session, index: int) -> None:
        first = await session.reset(index)
        if first != self._first:
            raise ReplayMismatch("replay", _difference("the first observation", self._first, first))
        for number, (action, before) in enumerate(self._steps, start=1):
            again = await session.step(action)
            if again != before:
                raise ReplayMismatch("replay", _difference(f"the answer to turn {number}", str(before), str(again)))

    async def _give_up(self) -> None:
        """Lets go of a session that failed; that it cannot be closed either is no news."""
        session, self._session = self._session, None
        if session is not None:
            try:
                await session.aclose()
            except EnvironmentFailed as failure:
                if self._recorder:
                    self._recorder.failed(failure)


def _difference(what: str, before: str, after: str) -> str:
    at = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    start = max(at - 20, 0)
    return f"played again, {what} was {after[start : at + 40]!r} instead of {before[start : at + 40]!r}"
