"""HTTP/1.1 over trio: the server's side of a connection, and a client over the pool's own connections."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

from envpool.places import connection as places

Headers = tuple[tuple[bytes, bytes], ...]

_OF_THE_CONNECTION = frozenset({b"connection", b"content-length", b"host", b"keep-alive", b"transfer-encoding"})
"""Headers that belong to one connection or to how a body was sent over it; each connection writes its own."""


class Lost(Exception):
    """The other side hung up, cannot be reached, or speaks no HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its whole body."""

    method: str
    target: str
    body: bytes = b""
    headers: Headers = ()

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> Mapping[str, str]:
        """The query by name."""
        return dict(parse_qsl(self.target.partition("?")[2]))

    def header(self, name: str) -> str | None:
        """Returns a header by its lower-case name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name.encode()), None)

    def json(self) -> Any:
        """Reads the body; None if there is none.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with its whole body."""

    status: int
    body: bytes = b""
    headers: Headers = ()

    @classmethod
    def of(cls, value: Any, status: int = 200, headers: Headers = ()) -> Response:
        """Writes a value as JSON."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, body, ((b"content-type", b"application/json"), *headers))

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """Writes plain text."""
        return cls(status, text.encode(), ((b"content-type", b"text/plain; charset=utf-8"),))

    def json(self) -> Any:
        """Reads the body.

        Raises:
            ValueError: the body is not JSON.
        """
        return json.loads(self.body)


class Connection:
    """The server's side of a keep-alive connection.

    Args:
        stream: the open socket.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._state = h11.Connection(h11.SERVER)

    async def receive_request(self) -> Request | None:
        """Waits for a request; None once the client is through with the connection.

        Raises:
            Lost: the client hung up in the middle, or spoke no HTTP.
        """
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()
        if self._state.our_state is h11.MUST_CLOSE:
            return None
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = await self._body()
        return Request(head.method.decode(), head.target.decode("latin-1"), body, tuple(head.headers))

    async def send_response(self, response: Response, times: int = 1) -> None:
        """Sends an answer, more than once if a test wants that.

        Raises:
            Lost: the client hung up.
        """
        await self._send(_head(response), h11.Data(response.body), h11.EndOfMessage(), times=times)

    async def send_half(self, response: Response) -> None:
        """Sends the head of an answer and half of its body.

        Raises:
            Lost: the client hung up.
        """
        await self._send(_head(response), h11.Data(response.body[: len(response.body) // 2]))

    async def wait_hangup(self) -> None:
        """Returns once the other side has hung up; what it still says is not looked at."""
        with suppress(trio.BrokenResourceError):
            while await self._stream.receive_some():
                pass

    def abort(self) -> None:
        """Resets the connection, so that the other side sees an error and not an end."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._stream.socket.close()

    async def _send(self, *events: h11.Event, times: int = 1) -> None:
        data = b"".join(self._state.send(event) or b"" for event in events) * times
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Lost("the other side hung up") from error

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        ended = False
        try:
            while (event := self._state.next_event()) is h11.NEED_DATA:
                data = await self._stream.receive_some()
                ended = not data
                self._state.receive_data(data)
        except trio.BrokenResourceError as error:
            raise Lost("the other side reset the connection") from error
        except h11.RemoteProtocolError as error:
            raise Lost("the other side hung up in the middle" if ended else f"that is no HTTP: {error}") from error
        return event

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        return bytes(body)


def _framed(headers: Headers, body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION]
    return [*kept, (b"content-length", str(len(body)).encode())]


def _head(response: Response) -> h11.Response:
    return h11.Response(status_code=response.status, headers=_framed(response.headers, response.body))


class Client:
    """Speaks to one server over one connection, which is opened when it is needed.

    Args:
        url: where the server is, as in ``http://127.0.0.1:8000``; a path in it is put in front of every target.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"expected an address like http://127.0.0.1:8000, got {url!r}")
        self._host, self._port, self._base = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self._name = parts.netloc.rpartition("@")[2]
        self._connection: places.Connection | None = None

    async def request(
        self, method: str, target: str, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Sends a value as JSON, or nothing if it is None.

        Raises:
            Lost: there was no complete answer.
        """
        named = tuple((name.lower().encode(), value.encode()) for name, value in (headers or {}).items())
        if json is None:
            return await self.send(Request(method, target, headers=named))
        written = Response.of(json)
        return await self.send(Request(method, target, written.body, (*written.headers, *named)))

    async def send(self, request: Request) -> Response:
        """Sends a request and waits for its answer.

        Raises:
            Lost: there was no complete answer; whether the server acted is not known.
        """
        headers = [(b"host", self._name.encode()), *_framed(request.headers, request.body)]
        head = h11.Request(method=request.method, target=self._base + request.target, headers=headers)
        try:
            received = await (await self._connect()).ask(head, request.body)
            return Response(received.status, received.body, tuple(received.headers))
        except places.ConnectionFailed as failure:
            raise Lost(str(failure)) from failure
        finally:
            if self._connection is not None and not self._connection.reusable:  # cut off, cancelled, or said to end
                with trio.CancelScope(shield=True):
                    await self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _connect(self) -> places.Connection:
        if self._connection is None:
            try:
                stream = await trio.open_tcp_stream(self._host, self._port)
            except OSError as error:
                raise Lost(f"{self._name} cannot be reached: {error}") from error
            self._connection = places.Connection(places.Socket(stream))
        return self._connection
