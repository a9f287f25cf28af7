"""A server on a loopback port that answers as a test wants, oddly or as another one did."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import trio

from envpool.testing.http1 import Connection, Request, Response
from envpool.testing.loopback import LoopbackServer

Handler = Callable[[str, str, Any], tuple[int, Any]]
"""From method, path and body to status and answer: a value that is sent as JSON, or bytes that are sent as they are."""


class ScriptedServer(LoopbackServer):
    """Answers with what a function returns.

    Args:
        handler: the function.
        latency: gives the seconds that a request takes; None for no time.

    Attributes:
        requests: those that came in, in order.
        counts: how many there were, by path.
    """

    def __init__(self, handler: Handler, *, latency: Callable[[], float] | None = None) -> None:
        self.requests: list[Request] = []
        self.counts: Counter[str] = Counter()
        self._handler = handler
        self._latency = latency

    @classmethod
    def recorded(cls, exchanges: Iterable[Mapping[str, Any]], *, base: str = "") -> ScriptedServer:
        """Makes a server that answers as another one did.

        Args:
            exchanges: with the keys ``method``, ``path``, ``status`` and ``response``; the answers to one method and
                path are given in their order, whatever the request holds, and then status 500.
            base: what requests have in front of the recorded paths.
        """
        left: defaultdict[tuple[str, str], deque[tuple[int, Any]]] = defaultdict(deque)
        for exchange in exchanges:
            status, answer = exchange["status"], exchange["response"]
            plain = status >= 500 and isinstance(answer, str)  # a traceback's page, never JSON
            left[exchange["method"], exchange["path"]].append((status, answer.encode() if plain else answer))

        def handler(method: str, path: str, body: Any) -> tuple[int, Any]:
            answers = left[method, path.removeprefix(base)]
            return answers.popleft() if answers else (500, f"nothing is recorded for another {method} {path}".encode())

        return cls(handler)

    async def converse(self, connection: Connection) -> None:
        """Answers one request after the other."""
        while (request := await connection.receive_request()) is not None:
            self.requests.append(request)
            self.counts[request.path] += 1
            if self._latency is not None:
                await trio.sleep(self._latency())
            status, answer = self._handler(request.method, request.path, request.json())
            response = Response(status, answer) if isinstance(answer, bytes) else Response.of(answer, status)
            await connection.send_response(response)
