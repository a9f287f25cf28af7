"""The server of `envpool serve` within a test, behind a `FaultProxy`, as itself or as an AgentGym original."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import TracebackType
from typing import Any, Self

import trio

from envpool.places.choice import host_of
from envpool.registry import get_spec
from envpool.server.serve import create_app, listening, uvicorn_server
from envpool.spec import EnvSpec
from envpool.testing.fault_proxy import FaultProxy
from envpool.testing.http1 import Client, Request, Response
from envpool.testing.original import Original

START_SECONDS = 60.0
"""How long a server may take to start."""


class LiveServer(FaultProxy):
    """Serves an environment over HTTP, in a thread of its own.

    Use it as ``async with LiveServer("textcraft") as server:`` and speak to `server.url`, that of the proxy: it can
    spoil requests, be killed and be revived, while the sessions stay.

    Args:
        environment: the card, or its name.
        original: whether it looks like the AgentGym server of its dialect (see `Original`).
        max_sessions: from how many sessions on it refuses to create another.
        token: what clients have to show.
        **options: of the proxy.
    """

    def __init__(
        self,
        environment: EnvSpec | str,
        *,
        original: bool = False,
        max_sessions: int = 10_000,
        token: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__("", **options)
        self.spec = get_spec(environment) if isinstance(environment, str) else environment
        self._app = create_app(self.spec, host_of(self.spec, None, 1), max_sessions=max_sessions, token=token)
        self._table = self._app.state.sessions
        self._original = Original(self.spec.dialect) if original else None

    @property
    def live(self) -> int:
        """How many sessions there are."""
        return len(self._table)

    @property
    def created(self) -> int:
        """How many sessions were created, ever."""
        count: int = self._table.created
        return count

    @property
    def closed(self) -> int:
        """How many sessions were closed, ever."""
        count: int = self._table.closed
        return count

    def restart(self) -> None:
        """Forgets every session; connections stay open (see `kill` for those)."""
        asyncio.run_coroutine_threadsafe(self._table.close_all(), self._loop).result(START_SECONDS)
        if self._original is not None:
            self._original.restart()

    async def __aenter__(self) -> Self:
        self._socket = listening("127.0.0.1", 0, None)
        listener, self._target = self._socket.__enter__()
        ready = threading.Event()

        def on_ready() -> None:
            self._loop = asyncio.get_running_loop()
            ready.set()

        self._server = uvicorn_server(self._app, listener, on_ready)
        run = partial(self._server.run, sockets=[listener])
        self._thread = threading.Thread(target=run, name="server", daemon=True)
        self._thread.start()
        await trio.to_thread.run_sync(ready.wait, START_SECONDS)
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._server.should_exit = True
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._thread.join, START_SECONDS)
            self._socket.__exit__(None, None, None)

    async def pass_on(self, request: Request, target: Client) -> Response:
        """Has the server answer."""
        if self._original is None:
            return await super().pass_on(request, target)
        return await self._original.answer(request, target)
