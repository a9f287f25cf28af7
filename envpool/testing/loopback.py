"""What the scripted server and the proxy are made of: a server that lives in a trio loop, dies and comes back."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import trio

from envpool.testing.http1 import Connection, Lost

BACKLOG = 4096
"""How many connections may wait to be accepted; the kernel takes as many as it is willing to."""


class LoopbackServer(ABC):
    """Speaks HTTP/1.1 on a port of the loopback interface while it is entered.

    It runs in the tasks of the trio loop that entered it. What goes wrong in it beyond a lost connection ends the
    block that it was entered for, and is raised there.

    Attributes:
        url: where it listens, as in ``http://127.0.0.1:40123``.
    """

    url: str

    async def __aenter__(self) -> Self:
        # A bound socket that never listens keeps the port ours while the server is down: connections to it are
        # refused, and nobody else is given it.
        self._place = _bound(0)
        self._port: int = self._place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._listening: trio.CancelScope | None = None
        self._failure: Exception | None = None
        self._down = trio.Event()
        self.revive()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nursery.cancel_scope.cancel()
        try:
            # the error of the block is not the nursery's: it goes on as it is, not as a group
            await self._manager.__aexit__(None, None, None)
        finally:
            self._place.close()
        if self._failure is not None:
            raise self._failure

    async def kill(self) -> None:
        """Stops listening and closes every connection, as a process that dies; does nothing if it is down."""
        if self._listening is not None:
            self._listening.cancel()
            await self._down.wait()

    def revive(self) -> None:
        """Listens again, on the same port; does nothing if it is up."""
        if self._listening is None:
            place = _bound(self._port)
            place.listen(BACKLOG)
            self._listening, self._down = trio.CancelScope(), trio.Event()
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(place))
            self._nursery.start_soon(self._listen, listener, self._listening, self._down)

    @abstractmethod
    async def converse(self, connection: Connection) -> None:
        """Serves one connection until its client is through with it; may raise `Lost`."""

    async def _listen(self, listener: trio.SocketListener, scope: trio.CancelScope, down: trio.Event) -> None:
        try:
            with scope:
                await trio.serve_listeners(self._serve, [listener])
        finally:
            self._listening = None
            down.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            await self.converse(Connection(stream))
        except Lost:
            pass  # clients come and go
        except Exception as failure:
            # kept, not raised: the block may end over the closed connection before the nursery hears of this
            self._failure = self._failure or failure
            self._nursery.cancel_scope.cancel()


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    place.setblocking(False)
    return place
