"""Sessions on this machine, for the pool: each in the place that its card or its user says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from envpool.errors import EnvPoolError
from envpool.places.choice import host_of, read_place
from envpool.places.hosts import Host
from envpool.places.process import ProcessHost
from envpool.places.session import open_session
from envpool.places.trio_loop import TrioLoop
from envpool.replay import ReplayingSession
from envpool.session import Session, queueing
from envpool.spec import EnvSpec, Place
from envpool.statistics import Recorder

PROCESSES = 2
"""Worker processes of an environment, if nobody says how many."""

REPLAYS = 3
"""How often an episode is played again because its worker process ended, in one call."""


class LocalTransport:
    """Opens sessions on this machine.

    No more sessions of an environment are built at once, or live at once, than its card says; others wait, which is no
    part of the time that a call may take.

    Args:
        place: ``inline``, ``thread`` or ``process`` for all environments; None for what their cards say.
        processes: worker processes of an environment, where its place is ``process``.
        imports: modules that worker processes import first; an environment's own module is imported in any case.
        replays: how often an episode is played again from its reset, in one call, because its worker process ended.

    Raises:
        EnvPoolError: there is no such place, or there is not to be any process.
    """

    def __init__(
        self,
        place: str | None = None,
        *,
        processes: int = PROCESSES,
        imports: Sequence[str] = (),
        replays: int = REPLAYS,
    ) -> None:
        if processes < 1:
            raise EnvPoolError(f"a place needs at least one worker process, not {processes}")
        self._place = None if place is None else read_place(place)
        self._processes = processes
        self._imports = tuple(imports)
        self._replays = replays
        self._runs = 0
        self._recorder: Recorder | None = None
        self._loop = TrioLoop(None)
        self._rooms: dict[EnvSpec, _Room] = {}

    def place_of(self, spec: EnvSpec) -> Place:
        """Where the sessions of an environment live."""
        return self._place or spec.place

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        hosts = [room.host for room in self._rooms.values()]
        return [pid for host in hosts if isinstance(host, ProcessHost) for pid in host.pids]

    @asynccontextmanager
    async def running(self, recorder: Recorder | None = None) -> AsyncIterator[None]:
        """Keeps the places; at the end frees what they hold, such as worker processes."""
        if not self._runs:
            self._recorder, self._loop, self._rooms = recorder, TrioLoop(recorder), {}
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1
            if not self._runs:
                rooms, self._rooms = self._rooms, {}
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as closing:
                        for room in rooms.values():
                            closing.start_soon(room.host.aclose, self._loop)

    async def open(self, spec: EnvSpec) -> Session:
        """Opens one session; waits until there is room for it.

        Raises:
            EnvPoolError: it could not be opened.
        """
        if not self._runs:
            raise EnvPoolError("the transport is not running")
        room = self._rooms.get(spec)  # cards of one name may have other options
        if room is None:
            host = host_of(spec, self.place_of(spec), self._processes, imports=self._imports, quiet=True)
            room = self._rooms[spec] = _Room(spec, host, self._loop)
        if not isinstance(room.host, ProcessHost):
            return await room.open()
        session = ReplayingSession(spec, None, room.open, replays=self._replays, recorder=self._recorder)
        await session.begin()
        return session


class _Room:
    """The place of one environment, and how much room there is."""

    def __init__(self, spec: EnvSpec, host: Host, loop: TrioLoop) -> None:
        self.spec = spec
        self.host = host
        self._loop = loop
        self._building = None if spec.most_building is None else trio.CapacityLimiter(spec.most_building)
        self._sessions = None if spec.most_sessions is None else trio.CapacityLimiter(spec.most_sessions)

    async def open(self) -> Session:
        """Opens a session when there is room for it."""
        if self._sessions is None and self._building is None:
            return await open_session(self.host, self._loop)
        ticket = object()  # the limiters tell their borrowers apart
        await _acquire(self._sessions, ticket)
        try:
            await _acquire(self._building, ticket)
            try:
                return await open_session(self.host, self._loop, lambda: _release(self._sessions, ticket))
            finally:
                _release(self._building, ticket)
        except BaseException:
            _release(self._sessions, ticket)
            raise


async def _acquire(limiter: trio.CapacityLimiter | None, ticket: object) -> None:
    if limiter is not None:
        with queueing():
            await limiter.acquire_on_behalf_of(ticket)


def _release(limiter: trio.CapacityLimiter | None, ticket: object) -> None:
    if limiter is not None:
        limiter.release_on_behalf_of(ticket)
