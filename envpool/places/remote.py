"""One environment server as the client sees it, and the sessions on it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import trio

from envpool.dialects import Complained, Dialect, Unreadable
from envpool.errors import EnvironmentFailed, MalformedAction, ServerRefused, ServerUnreachable, SessionLost
from envpool.places.actions import as_text
from envpool.places.caller import Caller
from envpool.places.creation import FINISH_SECONDS, Creation
from envpool.places.endpoint import Exchange, HttpSettings
from envpool.session import note_failure, queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.types import Action, Step

T = TypeVar("T")


class Group(Protocol):
    """The servers of one environment, as one of them and its sessions see them."""

    @property
    def well(self) -> bool:
        """Whether any of them answers."""

    def other_than(self, server: Server) -> bool:
        """Whether another one than `server` answers."""

    def left(self) -> None:
        """A session has ended."""


class NoRoom(Exception):
    """The server holds as many sessions as it may, which was not known when this one was sent there."""


class Server:
    """One environment server: requests with retries, how busy it is, and whether it is well.

    Args:
        name: of the environment.
        wire: the connections to it.
        dialect: how it speaks.
        settings: time limits and retries.
        nursery: where sessions are created, so that one that nobody waits for any more is closed again.
        recorder: where retries and failures are counted.
    """

    def __init__(
        self,
        name: str,
        wire: Exchange,
        dialect: Dialect,
        settings: HttpSettings,
        nursery: trio.Nursery,
        recorder: Recorder | None,
    ) -> None:
        self.dialect = dialect
        self.caller = Caller(wire, dialect.base, settings, recorder)
        self.ours = False
        self.load = 0
        self._name = name
        self._nursery = nursery
        self._recorder = recorder
        self._room = dialect.sessions
        self._keeps = settings.keep_sessions
        self._building = trio.CapacityLimiter(dialect.at_once) if dialect.at_once else None
        self._asked = False
        self._asking: trio.Event | None = None
        self._live: dict[int | str, RemoteSession] = {}
        self._free: list[int | str] = []
        self._unclosed: set[int | str] = set()

    @property
    def well(self) -> bool:
        """Whether it answers."""
        return self.caller.well

    @property
    def full(self) -> bool:
        """Whether it has no room for another session."""
        return self._room is not None and self.load >= self._room

    async def open(self, spec: EnvSpec, group: Group) -> RemoteSession:
        """Opens a session.

        Args:
            spec: the card of the environment.
            group: all servers of the environment.

        Raises:
            EnvironmentFailed: it could not be opened.
        """
        self.load += 1
        try:
            patient = not group.other_than(self)
            await self._get_to_know(spec, patient)
            if self._room is not None and self.load > self._room:
                raise NoRoom
            identity = self._free.pop() if self._free else await self._created(patient)
            older = self._live.get(identity)
            if older is not None:  # the server was started anew, or gives ids out again
                await older.lose()
        except BaseException:
            self.load -= 1
            group.left()
            raise
        session = RemoteSession(self, spec, identity, group)
        self._live[identity] = session
        return session

    async def finish(self) -> None:
        """Closes what could not be closed before, and the connections."""
        self.forget_free()
        with trio.move_on_after(FINISH_SECONDS):
            async with trio.open_nursery() as nursery:
                for identity in self._unclosed:
                    nursery.start_soon(self._close_quietly, identity)
        with trio.move_on_after(FINISH_SECONDS):
            await self.caller.aclose()

    async def close(self, session: RemoteSession, *, sound: bool) -> None:
        """Ends a session; one that cannot be closed now is closed later.

        Args:
            session: the session.
            sound: whether its last request was answered as it should.

        Raises:
            EnvironmentFailed: the server refused to close it.
        """
        self.load -= 1
        identity = session.identity
        if self._live.get(identity) is not session:
            return  # the id belongs to another session by now
        del self._live[identity]
        if sound and self._keeps:
            self._free.append(identity)
        elif sound and self.closes:
            self._unclosed.add(identity)
            try:
                await self._close(identity)
            except ServerUnreachable as failure:
                if self._recorder:
                    self._recorder.failed(failure)
                self._let_go(identity)
        elif sound or self.closes:
            self._let_go(identity)

    def forget_free(self) -> None:
        """Sessions that were kept for later are not used: a reset was refused, and they may be gone; or it is over."""
        if self.closes:
            self._unclosed.update(self._free)
        self._free.clear()

    @property
    def closes(self) -> bool:
        """Whether sessions can be closed."""
        return self.ours or self.dialect.closes

    @asynccontextmanager
    async def building(self) -> AsyncIterator[None]:
        """Around a request that makes the server build a world; waits for its turn."""
        if self._building is None:
            yield
            return
        with queueing():
            await self._building.acquire()
        try:
            yield
        finally:
            self._building.release()

    def unreadable(self, route: str, error: Unreadable) -> EnvironmentFailed:
        """The error to raise for an answer that does not fit the dialect."""
        if isinstance(error, Complained):
            return ServerRefused(route, f"{self.caller.address}: {error}")
        return ServerRefused(route, f"{self.caller.address} does not answer like a {self._name} server: {error}")

    async def _get_to_know(self, spec: EnvSpec, patient: bool) -> None:
        """Asks the server once who it is; AgentGym's own do not know the question."""
        while not self._asked:
            if self._asking is not None:
                try:
                    await self._asking.wait()
                except trio.Cancelled:
                    note_failure(self.caller.failure)  # what kept whoever asks
                    raise
                continue
            self._asking = asking = trio.Event()
            try:
                await self._ask(spec, patient)
            finally:
                self._asking = None
                asking.set()

    async def _ask(self, spec: EnvSpec, patient: bool) -> None:
        try:
            known = await self.caller.call("/info", None, method="GET", repeat=True, patient=patient)
        except ServerRefused:
            known = {}
        self.ours = self.caller.honours_keys = isinstance(known, dict) and known.get("server") == "envpool"
        if self.ours:
            self._check_card(spec, known)
            self._room = known.get("max_sessions", self._room)
        self._asked = True

    def _check_card(self, spec: EnvSpec, known: Mapping[str, Any]) -> None:
        theirs, mine = (known.get("environment"), known.get("version")), (spec.name, spec.version)
        if theirs != mine:
            text = f"{self.caller.address} serves {theirs[0]} version {theirs[1]}, not {mine[0]} version {mine[1]}"
            raise ServerRefused("/info", f"{text}: give both the same envpool, options and data")

    async def _created(self, patient: bool) -> int | str:
        """Creates a session in a task of its own, which outlives a caller that does not wait."""
        creation = Creation()
        self._nursery.start_soon(self._create, creation, patient)
        try:
            await creation.done.wait()
        except trio.Cancelled:
            creation.give_up()
            if creation.identity is not None:  # it was created between the cancellation and here
                self._let_go(creation.identity)
            raise
        if creation.failure is not None:
            raise creation.failure
        assert creation.identity is not None
        return creation.identity

    async def _create(self, creation: Creation, patient: bool) -> None:
        try:
            with creation.scope:
                async with self.building():
                    key = secrets.token_hex(16)
                    answer = await self.caller.call(
                        "/create", self.dialect.create, key=key, repeat=True, patient=patient
                    )
                creation.identity = self.dialect.read_created(answer)
        except EnvironmentFailed as failure:
            creation.failure = failure
        except Unreadable as error:
            creation.failure = self.unreadable("/create", error)
        finally:
            creation.done.set()
        if creation.abandoned and creation.identity is not None:
            self._let_go(creation.identity)

    async def _close(self, identity: int | str, *, patient: bool = False) -> None:
        """Closes one session of `_unclosed`; it stays there if the server does not answer."""
        body = {self.dialect.session: identity}
        try:
            answer = await self.caller.call(
                "/close", body, key=f"close-{identity}", session=identity, repeat=True, patient=patient
            )
        except (ServerRefused, SessionLost):
            self._unclosed.discard(identity)
            raise
        self._unclosed.discard(identity)
        if isinstance(answer, dict) and "error" in answer:
            raise ServerRefused("/close", f"{self.caller.address}: {answer['error']}")

    def _let_go(self, identity: int | str) -> None:
        """Ends a session that nobody holds: in the background, or by keeping it for the next episode."""
        if self.closes:
            self._unclosed.add(identity)
            self._nursery.start_soon(self._close_quietly, identity)
        else:
            self._free.append(identity)

    async def _close_quietly(self, identity: int | str) -> None:
        """Closes a session whose episode has ended already, if the server is back soon; failure is counted only."""
        with trio.move_on_after(FINISH_SECONDS, shield=True):
            try:
                await self._close(identity, patient=True)
            except EnvironmentFailed as failure:
                if self._recorder:
                    self._recorder.failed(failure)


class RemoteSession:
    """A session on a server.

    Attributes:
        identity: its id.
    """

    environment = None

    def __init__(self, server: Server, spec: EnvSpec, identity: int | str, group: Group) -> None:
        self.identity = identity
        self._lost = False
        self._quiet: trio.Event | None = None
        self._busy = False
        self._server = server
        self._spec = spec
        self._group = group
        self._closed = False
        self._sound = True
        self._key = secrets.token_hex(8)
        self._calls = 0
        self._score = spec.initial_score

    async def reset(self, index: int) -> str:
        """Starts the task `index`; returns the first observation.

        Raises:
            EnvironmentFailed: the server does not answer, or with an error.
        """
        dialect, known = self._server.dialect, self._server.dialect.tasks
        if known is not None and not self._server.ours and index not in known:
            text = f"an AgentGym server of {self._spec.name} has no task {index}: it has {known[0]} to {known[-1]}"
            raise ServerRefused("/reset", text, final=True)
        body = {dialect.index: index, **dialect.reset}
        self._score = self._spec.initial_score
        try:
            async with self._server.building():
                return await self._call("/reset", body, dialect.read_first, repeat=True)
        except (ServerRefused, SessionLost):
            self._server.forget_free()
            raise

    async def step(self, action: Action) -> Step:
        """Takes one action.

        Raises:
            EnvironmentFailed: the server does not answer, or with an error.
        """
        dialect = self._server.dialect
        try:
            text = as_text(self._spec, action)
        except MalformedAction as malformed:
            return Step(str(malformed), self._score, False)
        body = {"action": dialect.write_action(text)}
        step = await self._call("/step", body, dialect.read_step, repeat=False)
        self._score = step.score
        return step

    async def available_actions(self) -> Sequence[str]:
        """The actions that the server says are possible now.

        Raises:
            EnvironmentFailed: it does not say.
        """
        route = f"/available_actions?{self._server.dialect.session}={self.identity}"
        answer = await self._server.caller.call(
            route, None, method="GET", session=self.identity, repeat=True, patient=self._patient
        )
        try:
            return self._server.dialect.read_available(answer)
        except Unreadable as error:
            text = f"the server does not say which actions {self._spec.name} has: {error}"
            raise ServerRefused(route, text, final=True) from None

    async def aclose(self) -> None:
        """Ends the session on the server."""
        if not self._closed:
            self._closed = True
            try:
                await self._server.close(self, sound=self._sound)
            finally:
                self._group.left()

    async def lose(self) -> None:
        """Its id belongs to another session now; returns when no request of this one is on its way any more."""
        self._lost = True
        if self._busy:
            self._quiet = trio.Event()
            await self._quiet.wait()

    async def _call(self, route: str, body: Mapping[str, Any], read: Callable[[Any], T], *, repeat: bool) -> T:
        self._check()
        self._calls += 1
        key = f"{self._key}-{self._calls}"
        named = {self._server.dialect.session: self.identity, **body}
        self._sound, self._busy = False, True
        try:
            answer = await self._server.caller.call(
                route, named, key=key, session=self.identity, repeat=repeat, patient=self._patient
            )
        finally:
            self._busy = False
            if self._quiet is not None:
                self._quiet.set()
        self._check()
        try:
            found = read(answer)
        except Unreadable as error:
            raise self._server.unreadable(route, error) from None
        self._sound = True
        return found

    def _check(self) -> None:
        if self._lost:
            raise SessionLost("call", f"the server of {self._spec.name} gave the session to another episode")

    @property
    def _patient(self) -> bool:
        """Whether to wait for the server if it is down: not where another one can play the episode again."""
        return not (self._spec.deterministic and self._group.well)
