"""What connections may cost a server before anybody knows whose they are. Importing it takes uvicorn and httptools."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 2**14
"""Bytes of a request without its body, at most; Node.js has the same."""

MOST_PARTS = 100
"""How many headers and chunks a request may have; Apache has the same for headers."""

REQUEST_SECONDS = 10.0
"""How long a request may take to come in, and a new connection to send one."""

ANSWER_SECONDS = 30.0
"""How long an answer may take to be read."""

SPARE = 1024
"""How many connections there may be beside one for each session, if the system allows so many files."""

OTHER_FILES = 64
"""How many files the system should allow besides: pipes of workers, files of environments, connections too many."""

AT_ONCE = 8
"""How many connections are accepted before those too many are hung up on, which takes some rounds of the event loop."""

HELD = 2**22
"""Bytes that all connections may hold together: requests that are not complete, and answers that are not read."""

LARGEST = 8
"""How many of the largest requests they may hold, if that is more."""

COST = 12_000
"""Bytes of memory that a request takes besides its own, about: its parser, its task and what they remember."""

PIECE = 256
"""Bytes that are parsed at once, bodies apart, so that few requests are begun before the first of them is answered."""


def most_connections(max_sessions: int) -> int:
    """How many connections there may be, so that files are left for all else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max_sessions + SPARE
    return most if files == resource.RLIM_INFINITY else min(most, max(files - OTHER_FILES, files // 2))


class Connections:
    """What the connections of a server cost together, and which of them goes if that is too much.

    A connection *holds* memory while the server waits for its client: for a first request, for the rest of one, for an
    answer to be read. Whoever has kept the server waiting for longest goes first.

    Args:
        most: how many connections there may be.
        max_body: bytes of the body of a request, at most.

    Attributes:
        held: bytes that they hold now.
    """

    def __init__(self, most: int, max_body: int) -> None:
        self.held = 0
        self._most = most
        self._limit = max(HELD, LARGEST * max_body)
        self._holding: dict[Connection, int] = {}
        self._idle: dict[Connection, None] = {}

    def admit(self, newcomer: Connection, count: int) -> None:
        """Makes place for a connection; with it there are `count`."""
        if count > self._most:
            (next(iter(self._idle), None) or next(iter(self._holding), newcomer)).abort()

    def hold(self, connection: Connection, size: int) -> None:
        """A connection holds so many bytes now; 0 if the server does not wait for its client."""
        self._idle.pop(connection, None)
        before = self._holding.get(connection, 0)
        if size:
            self._holding[connection] = size  # its place stays that of the first time
        elif before:
            del self._holding[connection]
        self.held += size - before
        while self.held > self._limit:
            next(iter(self._holding)).abort()

    def rest(self, connection: Connection) -> None:
        """A connection is between two requests."""
        self.forget(connection)
        self._idle[connection] = None

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self._idle.pop(connection, None)
        self.held -= self._holding.pop(connection, 0)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which limits neither the head of a request, nor its time, nor how many are sent ahead.

    Requests that are sent before the one in front of them is answered stay unparsed and, beyond one reading, unread.

    Args:
        *arguments: of uvicorn.
        everyone: all connections of the server.
        **options: of uvicorn.
    """

    flow: _Flow

    def __init__(self, *arguments: Any, everyone: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._everyone = everyone
        self._timer: asyncio.TimerHandle | None = None  # while a request comes in
        self._reader: asyncio.TimerHandle | None = None  # while an answer is not read
        self._unparsed = bytearray()
        self._parsed = self._waiting = 0  # bytes of the request that comes in, and of those not yet taken
        self._unfinished = 0  # bytes that came since the last whole head or piece of a body
        self._parts = self._left = 0  # of the request that comes in: headers and chunks, bytes of its body to come
        self._new = True  # no request has begun yet
        self._inside = self._in_head = False  # of a request
        self._unanswered = 0  # requests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Sets limits; if there are too many connections, one is hung up on."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        transport.set_write_buffer_limits(high=0)  # so that it is noticed if an answer is not read
        self._everyone.admit(self, len(self.connections))
        self._account()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection and all that came."""
        self._timer = _stop(self._timer)
        self._reader = _stop(self._reader)
        self._everyone.forget(self)
        self._drop_input()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Hangs up at once."""
        self._drop_input()
        self._everyone.forget(self)
        self.transport.abort()

    def _drop_input(self) -> None:
        """Frees what came, which might be garbage of the slow kind otherwise: the connection is part of a circle."""
        self._unparsed.clear()
        if self.cycle is not None and not self.pipeline:
            self.cycle.body = bytearray()

    def data_received(self, data: bytes) -> None:
        """Parses what came, up to the end of a request that has to be answered first."""
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        while self._unparsed and not self._busy and not self.transport.is_closing():
            size = PIECE if self._in_head else max(PIECE, self._left)
            piece = bytes(self._unparsed[:size])
            del self._unparsed[:size]
            self._parsed += len(piece)
            self._unfinished += len(piece)
            super().data_received(piece)
            if (self._unfinished > LONGEST_HEAD or self._parts > MOST_PARTS) and not self.transport.is_closing():
                self._refuse("431 Request Header Fields Too Large")
        self._account()

    @property
    def _busy(self) -> bool:
        """Whether there is a whole request that has to be answered first."""
        return bool(self.pipeline) or (self._unanswered > 0 and not self._inside)

    def _account(self) -> None:
        """Tells what the connection holds, and sets the time limit for the rest of a request."""
        if self.transport.is_closing():
            return
        self.flow.set_ahead(bool(self._unparsed))
        coming = (self._new or self._inside or self._unfinished > 0) and not self.pipeline
        if not coming:
            self._timer = _stop(self._timer)
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.abort)
        unread = self.transport.get_write_buffer_size() if self._reader else 0
        requests = COST * (len(self.pipeline) + coming)
        size = len(self._unparsed) + self._parsed + self._waiting + unread + requests
        if size or self._unanswered:
            self._everyone.hold(self, size)
        else:
            self._everyone.rest(self)

    def pause_writing(self) -> None:
        """An answer is not read at once."""
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(ANSWER_SECONDS, self.abort)
        self._account()

    def resume_writing(self) -> None:
        """It has been read."""
        super().resume_writing()
        self._reader = _stop(self._reader)
        self._account()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        self._refuse("400 Bad Request")

    def _refuse(self, status: str) -> None:
        """Answers the request that comes in and hangs up; without a word if another one has to be answered first."""
        begun = self._inside and not self._in_head and not self.cycle.response_complete
        if self._unanswered > begun or (begun and self.cycle.response_started):
            self.abort()
            return
        if begun:
            self.cycle.disconnected = True  # the application has nothing more to say
        self._unparsed.clear()
        self.transport.write(f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._new, self._inside, self._in_head, self._parts, self._left = False, True, True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the headers, those that follow a body included."""
        self._parts += 1
        if name.lower() == b"content-length":
            self._left = int(value)  # the parser has seen that it is a number
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unfinished, self._in_head = 0, False
        self._unanswered += 1
        super().on_headers_complete()
        if self.parser.should_upgrade():  # its body would be taken for a request
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """Counts the chunks: tiny ones cost much time."""
        self._parts += 1

    def on_body(self, body: bytes) -> None:
        """A piece of the body, whose length the application limits."""
        self._unfinished = 0
        self._left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: what follows takes as long as it takes."""
        self._unfinished, self._inside = 0, False
        self._timer = _stop(self._timer)
        super().on_message_complete()
        size, self._parsed = self._parsed, 0
        self._waiting += size
        self.loop.call_soon(self._taken, size)

    def _taken(self, size: int) -> None:
        """The application has taken what came."""
        self._waiting -= size
        self._account()

    def on_response_complete(self) -> None:
        """The next request has its turn; what is left of an answered one is of no interest."""
        self._unanswered -= 1
        if not self.pipeline:  # else the cycle is that of another request
            self.cycle.body = bytearray()
        super().on_response_complete()
        self._parse()


class _Flow(FlowControl):
    """Reads no further while requests wait that were sent ahead."""

    _ahead = False

    def set_ahead(self, ahead: bool) -> None:
        """Whether something that was read has to wait for its turn."""
        if self._ahead and not ahead:
            self._ahead = False
            self.resume_reading()
        elif ahead:
            self._ahead = True
            self.pause_reading()

    def resume_reading(self) -> None:
        if not self._ahead:
            super().resume_reading()


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
