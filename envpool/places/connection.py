"""One HTTP/1.1 connection, on which an answer is believed only if nothing came before its request or after its end.

Bytes that are left over would be read as the answer to the next request, and so on for ever after: a connection with
any of them is of no more use, and the answer before them counts as none. Libraries of HTTP clients do not tell.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import h11
import trio

KEEPALIVE_SECONDS = 2.0
"""Idle connections are not used again after this: uvicorn hangs up at 5 s, and a request sent just then is lost."""

MAX_ANSWER = 64 * 2**20
"""The largest answer that is read, in bytes; the pages of web sites with their pictures are some megabytes."""

MAX_HEAD = 100 * 2**10
"""Bytes of the head of an answer, at most."""

INTERIM_ANSWERS = 8
"""How many answers with a status below 200 may come before the answer."""

PIECE = 2**16
"""Bytes of a request that are sent before we look whether it is answered already."""


class Nothing(Exception):
    """There is nothing to read now."""


class Socket(trio.abc.Stream):
    """A socket that can be read without waiting, also from within TLS.

    Attributes:
        waits: whether reading waits for something to come; if not, it raises `Nothing`.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.waits = True
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Reads what has come.

        Raises:
            Nothing: nothing has, and it does not wait.
        """
        if not self.waits and not self._stream.socket.is_readable():
            raise Nothing
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of it."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until there is room to send."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Hangs up."""
        await self._stream.aclose()


Stream = Socket | trio.SSLStream[Any]
"""A connection in the clear, encrypted, or encrypted within an encrypted connection to a proxy."""


class ConnectionFailed(Exception):
    """There was no answer that can be believed.

    Args:
        text: what happened, in one line.
        sent: whether the server may have read the request.
        heard: whether it answered, only not so that it could be believed.
    """

    def __init__(self, text: str, *, sent: bool, heard: bool = False) -> None:
        super().__init__(text)
        self.sent = sent
        self.heard = heard


@dataclass(frozen=True, slots=True)
class Received:
    """An answer.

    Attributes:
        status: of HTTP.
        headers: lower-case names and values.
        body: all of it.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The first header of that lower-case name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


class Connection:
    """A connection to one server, for one request at a time.

    Args:
        stream: the open connection.

    Attributes:
        reusable: whether another request may be sent, so far as is known.
    """

    def __init__(self, stream: Stream) -> None:
        self.reusable = True
        self._stream = stream
        inner = stream
        while isinstance(inner, trio.SSLStream):
            inner = inner.transport_stream
        self._socket = inner
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._used = time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether it was idle for so long that the server may be about to hang up."""
        return time.monotonic() - self._used > KEEPALIVE_SECONDS

    async def ask(self, request: h11.Request, content: bytes | None = None) -> Received:
        """Sends a request and reads its answer. No time limit is set here.

        Raises:
            ConnectionFailed: there was none that can be believed; the connection is of no more use.
        """
        self.reusable, sent, heard = False, False, False
        parts = [self._state.send(event) for event in (request, h11.Data(content or b""), h11.EndOfMessage())]
        try:
            sent = await self._send(b"".join(part or b"" for part in parts))
            answer = await self._receive()
            heard = True
            if not sent and answer.status < 400:  # a refusal may come before all was read, and is the last answer
                raise _Unbelievable("it answered before the request was sent")
            await self._end()
        except _BROKEN as error:
            raise ConnectionFailed(_why(error), sent=sent, heard=heard) from error
        self.reusable = self.reusable and sent
        return answer

    async def tunnel(self, target: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Asks a proxy to connect to a server, which is spoken to over the same stream from then on.

        Raises:
            ConnectionFailed: it does not.
        """
        request = h11.Request(method="CONNECT", target=target, headers=[(b"Host", target.encode()), *headers])
        parts = [self._state.send(event) for event in (request, h11.EndOfMessage())]
        try:
            await self._stream.send_all(b"".join(part or b"" for part in parts))
            head = await self._head()
            if head.status_code >= 300:
                raise _Unbelievable(f"it answered {head.status_code}")
            if self._state.trailing_data[0]:
                raise _Unbelievable("it sent more than its answer")
        except _BROKEN as error:
            raise ConnectionFailed(f"the proxy does not connect to {target}: {_why(error)}", sent=False) from error

    async def aclose(self) -> None:
        """Hangs up without a word, which never blocks."""
        self.reusable = False
        await trio.aclose_forcefully(self._stream)

    async def _send(self, data: bytes) -> bool:
        """Sends a request; returns whether all of it was sent before anything came back."""
        for start in range(0, len(data), PIECE):
            heard = await self._heard()
            if heard is not None:
                if start == 0:
                    raise _Unbelievable("it spoke before it was asked" if heard else "it hung up before it was asked")
                self._state.receive_data(heard)
                return False
            try:
                await self._stream.send_all(data[start : start + PIECE])
            except trio.BrokenResourceError:
                return False  # it hung up, maybe after it said why
        return True

    async def _heard(self) -> bytes | None:
        """What has come so far that nobody waits for; empty if the server has hung up, None if there is nothing."""
        self._socket.waits = False
        try:
            return bytes(await self._stream.receive_some(PIECE))
        except Nothing:
            return None
        except trio.BrokenResourceError:
            return b""
        finally:
            self._socket.waits = True

    async def _receive(self) -> Received:
        head = await self._head()
        headers = [(name, value) for name, value in head.headers]
        names = {name for name, _ in headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            raise _Unbelievable("the answer says its length in two ways")
        chunks, size = [], 0
        while isinstance(event := await self._event(), h11.Data):
            chunks.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_ANSWER:
                raise _Unbelievable(f"the answer is longer than {MAX_ANSWER} bytes")
        return Received(head.status_code, headers, b"".join(chunks))

    async def _head(self) -> h11.Response:
        for _ in range(INTERIM_ANSWERS + 1):
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise _Unbelievable("it hung up without an answer")
        raise _Unbelievable(f"it sent more than {INTERIM_ANSWERS} answers with a status below 200")

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            data = bytes(await self._stream.receive_some(PIECE))
            if not data and self._state.their_state is h11.SEND_RESPONSE:
                raise _Unbelievable("it hung up without an answer")
            self._state.receive_data(data)
        return event

    async def _end(self) -> None:
        """Makes sure that the answer was all that came; the connection is reusable if both sides want that."""
        left, ended = self._state.trailing_data
        heard = b"" if left or ended else await self._heard()
        if left or heard:
            raise _Unbelievable("it sent more than one answer")
        if (self._state.our_state, self._state.their_state) == (h11.DONE, h11.DONE) and heard is None:
            self._state.start_next_cycle()
            self.reusable, self._used = True, time.monotonic()


class _Unbelievable(Exception):
    """What came is not the one answer to the request."""


_BROKEN = (_Unbelievable, h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


def _why(error: BaseException) -> str:
    return str(error.__cause__ or error)[:300] or type(error).__name__
