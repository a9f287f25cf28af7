"""The servers of one environment: a session goes to the least loaded one that is well and has room."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import trio

from envpool.dialects import Dialect
from envpool.errors import EnvironmentFailed, ServerUnreachable
from envpool.places.endpoint import Exchange, HttpSettings
from envpool.places.remote import NoRoom, RemoteSession, Server
from envpool.session import queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.types import Split

logger = logging.getLogger("envpool")

COMPARED = 3
"""How many tasks are begun on each of several servers to see whether they are alike."""

COMPARE_SECONDS = 30.0
"""How long that may take."""

NOT_ALIKE = (
    "%s: %s and %s begin task %d differently: they are not replicas. Results depend on which of them plays a task, and "
    "what is lost on one cannot be played again on the other; %s"
)

_compared: set[tuple[str, ...]] = set()
"""The addresses of servers that were compared before in this process."""


class Replicas:
    """The servers of one environment.

    Args:
        name: of the environment.
        wires: the connections to each.
        dialect: how they speak.
        settings: time limits and retries.
        nursery: where sessions are created, so that one that nobody waits for any more is closed again.
        recorder: where retries and failures are counted.
    """

    def __init__(
        self,
        name: str,
        wires: Sequence[Exchange],
        dialect: Dialect,
        settings: HttpSettings,
        nursery: trio.Nursery,
        recorder: Recorder | None,
    ) -> None:
        self._comparing: trio.Event | None = None
        self._servers = [Server(name, wire, dialect, settings, nursery, recorder) for wire in wires]
        self._left = trio.lowlevel.ParkingLot()

    @property
    def well(self) -> bool:
        """Whether any of them answers."""
        return any(server.well for server in self._servers)

    async def open(self, spec: EnvSpec) -> RemoteSession:
        """Opens a session on the least loaded server that is well and has room; waits while there is no room.

        Raises:
            EnvironmentFailed: it could not be opened.
        """
        with queueing():
            await self._compare(spec)
        tried: set[Server] = set()
        while True:
            server = min(self._servers, key=lambda server: (server in tried, server.full, not server.well, server.load))
            if server.full:
                with queueing():
                    await self._left.park()
                continue
            try:
                return await server.open(spec, self)
            except NoRoom:
                continue
            except ServerUnreachable:
                tried.add(server)
                if len(tried) == len(self._servers):
                    raise

    async def _compare(self, spec: EnvSpec) -> None:
        """Says, once in a process, if several servers begin a task differently. Ours do not: they say what they are.

        It comes before any episode: some originals draw on one random generator for all their sessions.
        """
        if self._comparing is not None:
            await self._comparing.wait()
            return
        addresses = tuple(server.caller.address for server in self._servers)
        if len(addresses) < 2 or addresses in _compared or not spec.deterministic:
            return
        _compared.add(addresses)
        self._comparing = trio.Event()
        try:
            with trio.move_on_after(COMPARE_SECONDS):
                for index in _first_tasks(spec, self._servers[0].dialect):
                    begins: dict[str, Server] = {}
                    for server in self._servers:
                        if (first := await self._first_observation(server, spec, index)) is not None:
                            begins.setdefault(first, server)
                    if len(begins) > 1:
                        one, other, *_ = (server.caller.address for server in begins.values())
                        logger.warning(NOT_ALIKE, spec.name, one, other, index, spec.dialect.alike)
                        return
        finally:
            self._comparing.set()

    async def _first_observation(self, server: Server, spec: EnvSpec, index: int) -> str | None:
        """How a task begins on a server that is not ours and answers."""
        try:
            session = await server.open(spec, self)
            try:
                return None if server.ours else await session.reset(index)
            finally:
                with trio.move_on_after(COMPARE_SECONDS, shield=True):
                    await session.aclose()
        except (EnvironmentFailed, NoRoom):
            return None

    def other_than(self, server: Server) -> bool:
        """Whether another one than `server` answers."""
        return any(one.well for one in self._servers if one is not server)

    def left(self) -> None:
        """A session has ended."""
        self._left.unpark()

    async def finish(self) -> None:
        """Closes what could not be closed before, and all connections."""
        async with trio.open_nursery() as nursery:
            for server in self._servers:
                nursery.start_soon(server.finish)


def _first_tasks(spec: EnvSpec, dialect: Dialect) -> list[int]:
    """Some tasks that an original server knows."""
    tasks = (n for split in Split for n in spec.tasks(split) if dialect.tasks is None or n in dialect.tasks)
    return list(itertools.islice(tasks, COMPARED))
