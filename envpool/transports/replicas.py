"""The servers of one environment: a session goes to the least loaded one that is well and has room."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from envpool.dialects import Dialect
from envpool.errors import ServerUnreachable
from envpool.session import queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.transports.endpoint import Exchange, HttpSettings
from envpool.transports.remote import NoRoom, RemoteSession, Server


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
