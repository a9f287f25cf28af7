"""A server that speaks OpenAI's API on a loopback port, as well or as badly as a test wants it to."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from envpool.testing.http1 import Connection, Request, Response
from envpool.testing.loopback import LoopbackServer

MODEL = "fake/model"

Answering = Callable[[str, Mapping[str, Any]], Any]
"""From route and body to what stands in ``choices[0]``, and in ``usage``; or `Hang`."""


class Hang:
    """Not answered at all."""


class Drop:
    """The connection is closed instead."""


class Half:
    """Half of an answer, then the connection is closed."""


def says(text: str | None, **more: Any) -> Answering:
    """A model that always says the same."""

    def answer(route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, **more.get("message", {})}
        return {"index": 0, "finish_reason": "stop", **more, "message": message}

    return answer


def error(status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = (), **more: Any) -> Response:
    """An error as OpenAI and vLLM write them."""
    return Response.of({"error": {"message": message, "type": "error", "param": None, **more}}, status, tuple(headers))


class FakeOpenAI(LoopbackServer):
    """Answers ``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions``.

    Args:
        answer: what its model says.
        key: the key that it demands.
        models: what it lists; None for no list.
        seconds: how long an answer takes.
        hold: no answer is given before so many requests have come at once.

    Attributes:
        script: what the next requests for an answer get instead; a `Response`, `Hang`, `Drop` or `Half` each.
        bodies: the bodies of all requests for an answer, in order.
        requests: how many requests came, by path.
        busy: requests that are being answered.
        most: the most that there ever were at once.
        open: open connections.
    """

    def __init__(
        self,
        answer: Answering | None = None,
        *,
        key: str | None = None,
        models: Sequence[Mapping[str, Any]] | None = ({"id": MODEL, "max_model_len": 32768},),
        seconds: float = 0.0,
        hold: int = 0,
    ) -> None:
        self.script: deque[Any] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.busy = self.most = self.open = self.opened = 0
        self._left = trio.Event()
        self._answer = answer or says("Thought:\nNorth it is.\n\nAction:\nmove up")
        self._key = key
        self._models = models
        self._seconds = seconds
        self._hold = hold
        self._held = trio.Event()

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    async def converse(self, connection: Connection) -> None:
        self.open += 1
        self.opened += 1
        try:
            while (request := await connection.receive_request()) is not None:
                self.requests[request.path] += 1
                self.headers.append({name.decode(): value.decode() for name, value in request.headers})
                self.busy += 1
                self.most = max(self.most, self.busy)
                try:
                    answer = await self._respond(request)
                finally:
                    self.busy -= 1
                if answer is Hang:
                    await connection.wait_hangup()
                    return
                if answer is Drop:
                    return
                if answer is Half:
                    await connection.send_half(Response.of({"choices": [{"message": {"content": "half"}}]}))
                    return
                await connection.send_response(answer)
        finally:
            self.open -= 1
            connection.close()
            self._left.set()
            self._left = trio.Event()

    async def all_left(self) -> None:
        """Returns when no connection is open; a server learns a moment later that its clients hung up."""
        with trio.fail_after(5):
            while self.open:
                await self._left.wait()

    async def _respond(self, request: Request) -> Any:
        if self._key is not None and request.header("authorization") != f"Bearer {self._key}":
            return error(401, f"Incorrect API key provided: {request.header('authorization')}", code="invalid_api_key")
        route = request.path.removeprefix("/v1")
        if route == "/models":
            return Response.of({"detail": "Not Found"}, 404) if self._models is None else self._list()
        if route not in ("/chat/completions", "/completions"):
            return Response.of({"detail": "Not Found"}, 404)
        body = request.json()
        self.bodies.append(body)
        if self.busy >= self._hold:
            self._held.set()
        await self._held.wait()
        if self._seconds:
            await trio.sleep(self._seconds)
        if self.script:
            return self.script.popleft()
        if body["model"] != MODEL:
            return error(404, f"The model `{body['model']}` does not exist.", code=404)
        choice = self._answer(route, body)
        if choice is Hang:
            return Hang
        read = len(body["prompt"]) if "prompt" in body else sum(len(m["content"].split()) for m in body["messages"])
        usage = {"prompt_tokens": read, "completion_tokens": 5, **choice.pop("usage", {})}
        return Response.of({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})

    def _list(self) -> Response:
        return Response.of({"object": "list", "data": list(self._models or ())})


@contextmanager
def in_a_thread(fake: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """Serves beside code that has a trio loop of its own."""
    ready, ended = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        async with fake:
            tokens.append(trio.lowlevel.current_trio_token())
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    try:
        yield fake
    finally:
        trio.from_thread.run_sync(ended.set, trio_token=tokens[0])
        thread.join(10)


GARBAGE = Response(200, b"<html>Bad Gateway</html>", ((b"content-type", b"text/html"),))
JUNK = Response(200, json.dumps(["no", "object"]).encode())
