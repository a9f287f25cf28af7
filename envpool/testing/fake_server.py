"""Servers on a loopback port that answer as environment servers do, or as a test wants them to."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from envpool.dialects import Dialect
from envpool.errors import EnvPoolError
from envpool.registry import get_spec
from envpool.spec import EnvSpec
from envpool.testing.faults import Fault, Mixup
from envpool.testing.http1 import Connection, Request, Response
from envpool.testing.loopback import LoopbackServer
from envpool.testing.worlds import Worlds

Handler = Callable[[str, str, Any], tuple[int, Any]]
"""From method, path and body to status and answer: a value that is sent as JSON, or bytes that are sent as they are."""

Latency = Callable[[], float]
"""Gives the seconds that a request takes."""

SWAP_SECONDS = 5.0
"""How long an answer waits for another one to be exchanged with."""


class AnsweringServer(LoopbackServer):
    """A loopback server that gives one answer to each request.

    Attributes:
        requests: how many requests came in, by path (as in ``/step``; a base of the dialect is left out).
        latency: how long each request takes, before it is carried out; None for no time.
        upcoming: what becomes of the answers to the next requests: `Fault.DUP`, `Fault.SWAP` or `Fault.STALE`, or None
            for nothing. For all other faults there is `FaultProxy`.
    """

    def __init__(self, latency: Latency | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self.latency = latency
        self.upcoming: deque[Fault | None] = deque()
        self._mixup = Mixup(random.Random(0), SWAP_SECONDS)

    @abstractmethod
    async def answer(self, request: Request) -> Response:
        """Answers one request."""

    async def converse(self, connection: Connection) -> None:
        """Answers one request after the other."""
        while (request := await connection.receive_request()) is not None:
            fault = self.upcoming.popleft() if self.upcoming else None
            if fault not in (None, Fault.DUP, Fault.SWAP, Fault.STALE):
                raise EnvPoolError(f"a fake server knows no fault {fault!s}: put a FaultProxy in front of it")
            response, times = await self._mixup.treat(fault, request, await self.answer(request))
            await connection.send_response(response, times)

    async def _pause(self) -> None:
        if self.latency is not None:
            await trio.sleep(self.latency())


class FakeServer(AnsweringServer):
    """Serves an environment over HTTP, inside the trio loop of a test.

    Use it as ``async with FakeServer("maze") as server:`` and speak to `server.url`. It knows the whole wire of
    envpool's own server, and, with ``native=False``, how the original servers differ from it.

    Args:
        environment: the card, or its name.
        dialect: in which shape; None for that of the environment.
        native: as envpool's server, or as the dialect's original: no ``/info``, no idempotency, ids from 1 that are
            given out again after as many as the original holds, errors in the original's shape.
        latency: gives the seconds that a request takes.
        max_sessions: from how many sessions on a native server refuses to create another.
    """

    def __init__(
        self,
        environment: EnvSpec | str,
        dialect: Dialect | str | None = None,
        native: bool = True,
        *,
        latency: Latency | None = None,
        max_sessions: int = 10_000,
    ) -> None:
        super().__init__(latency)
        spec = get_spec(environment) if isinstance(environment, str) else environment
        if dialect is None:
            dialect = spec.dialect
        shape = get_spec(dialect).dialect if isinstance(dialect, str) else dialect
        self._native = native
        self._worlds = Worlds(spec, shape, native, max_sessions)

    @staticmethod
    def scripted(handler: Handler, *, latency: Latency | None = None) -> ScriptedServer:
        """Makes a server that answers with what a function returns."""
        return ScriptedServer(handler, latency)

    @staticmethod
    def recorded(exchanges: Iterable[Mapping[str, Any]], *, base: str = "") -> ScriptedServer:
        """Makes a server that answers as another one did.

        Args:
            exchanges: with the keys ``method``, ``path``, ``status`` and ``response``; the answers to one method and
                path are given in their order, whatever the request holds, and then status 500.
            base: what requests have in front of the recorded paths.
        """
        return ScriptedServer(_replay(exchanges, base))

    @property
    def live(self) -> set[int]:
        """The ids of the live sessions."""
        return set(self._worlds.worlds)

    @property
    def created(self) -> int:
        """How many sessions were created, ever."""
        return self._worlds.created

    @property
    def closed(self) -> int:
        """How many sessions were closed, ever."""
        return self._worlds.closed

    def restart(self) -> None:
        """Forgets every session; connections stay open (see `kill` for those)."""
        self._worlds.forget()

    async def answer(self, request: Request) -> Response:
        """Answers one request; one with a known ``Idempotency-Key`` as it was answered before."""
        self.requests[self._worlds.route(request)] += 1
        key = request.header("idempotency-key")
        if not self._native:
            return await self._carry_out(request)
        if key is None:
            response = await self._carry_out(request)
        else:
            response = await self._worlds.recent_of(request).answer(key, partial(self._carry_out, request))
        return replace(response, headers=(*response.headers, *self._worlds.echo(request)))

    async def _carry_out(self, request: Request) -> Response:
        await self._pause()
        return self._worlds.answer(request)


class ScriptedServer(AnsweringServer):
    """Answers with what a function returns; see `FakeServer.scripted`."""

    def __init__(self, handler: Handler, latency: Latency | None = None) -> None:
        super().__init__(latency)
        self._handler = handler

    async def answer(self, request: Request) -> Response:
        """Asks the function."""
        self.requests[request.path] += 1
        await self._pause()
        status, answer = self._handler(request.method, request.path, request.json())
        return Response(status, answer) if isinstance(answer, bytes) else Response.of(answer, status)


def _replay(exchanges: Iterable[Mapping[str, Any]], base: str) -> Handler:
    left: defaultdict[tuple[str, str], deque[tuple[int, Any]]] = defaultdict(deque)
    for exchange in exchanges:
        status, answer = exchange["status"], exchange["response"]
        plain = status >= 500 and isinstance(answer, str)  # a traceback's page, never JSON
        left[exchange["method"], exchange["path"]].append((status, answer.encode() if plain else answer))

    def handler(method: str, path: str, body: Any) -> tuple[int, Any]:
        answers = left[method, path.removeprefix(base)]
        return answers.popleft() if answers else (500, f"no answer is recorded for another {method} {path}".encode())

    return handler
