"""Makes a server of ours look like AgentGym's own of the same dialect, with its gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from envpool.dialects import REQUEST, Dialect
from envpool.testing.http1 import Client, Request, Response

OURS = ("/info", "/health", "/available_actions", "/filtered_vocab")
"""Routes that the originals do not have."""

HIDDEN = (b"idempotency-key", REQUEST.lower().encode())
"""Headers that they do not know."""


class Original:
    """Translates between a client of an original server and a server of ours.

    There is no ``/info``, no idempotency and no name that is sent back; the ids of sessions count from 1 and, after as
    many as the dialect says, are given out a second time, for the same session; errors are told as the original does.

    Args:
        dialect: the shape in which both speak.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.restart()

    def restart(self) -> None:
        """Counts the ids from 1 again, as a server that is started anew."""
        self._given = 0
        self._known: dict[int, int | str] = {}

    async def answer(self, request: Request, target: Client) -> Response:
        """Answers a request of a client with the help of our server."""
        dialect = self._dialect
        route = request.path.removeprefix(dialect.base)
        if route in OURS or (route == "/close" and not dialect.closes):
            return Response.of({"detail": "Not Found"}, 404)
        headers = tuple(header for header in request.headers if header[0].lower() not in HIDDEN)
        request = replace(request, headers=headers)
        if route == "/create":
            return await self._create(request, target)
        words = dict(request.query if request.method == "GET" else request.json() or {})
        if dialect.session not in words:
            return self._told(await target.send(request), 0)
        given = int(words[dialect.session])
        if given not in self._known:
            return self._failure(f"The id {given} is not valid.")
        words[dialect.session] = self._known[given]
        if request.method == "GET":
            named = replace(request, target=f"{request.path}?{urlencode(words)}")
        else:
            named = replace(request, body=json.dumps(words).encode())
        return self._told(await target.send(named), given)

    async def _create(self, request: Request, target: Client) -> Response:
        dialect = self._dialect
        self._given += 1
        number = self._given if dialect.sessions is None else (self._given - 1) % dialect.sessions + 1
        if number not in self._known:
            answer = await target.send(request)
            if answer.status != 200 or (isinstance(said := answer.json(), dict) and "error" in said):
                return self._told(answer, number)
            self._known[number] = dialect.read_created(said)
        if dialect.created is None:
            return Response.of(number)
        return Response.of({dialect.created: number, "observation": "", "done": False, "reward": 0})

    def _told(self, answer: Response, number: int) -> Response:
        """An answer of ours as the original would have given it."""
        if answer.status != 200:
            return answer
        said = answer.json()
        if isinstance(said, dict) and "kind" in said:
            return self._failure(said["error"])
        if isinstance(said, dict):
            if self._dialect.session in said:
                said[self._dialect.session] = number
            if self._dialect.score == "reward":
                said.pop("score", None)
        return Response.of(said)

    def _failure(self, text: str) -> Response:
        dialect = self._dialect
        if dialect.trouble:
            over: Mapping[str, Any] = dict.fromkeys(dialect.done, False)
            return Response.of({dialect.observation: text, "reward": 0, **dialect.trouble, **over})
        if dialect.created is None:  # the originals whose sessions are bare numbers do not catch their errors
            return Response.text("Internal Server Error", 500)
        return Response.of({"error": text})
