"""What one connection may cost a server before anybody knows who it is. Importing it takes uvicorn and httptools."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 2**14
"""Bytes of a request without its body, at most, apart from what comes in one piece; Node.js has the same."""

REQUEST_SECONDS = 10.0
"""How long a request may take to come in, and a new connection to send one."""

MOST = 4096
"""How many connections there may be, if the system allows so many files."""

OTHER_FILES = 64
"""How many files the system should allow besides: pipes of workers, files of environments, connections too many."""

AT_ONCE = 8
"""How many connections are accepted before those too many are hung up on, which takes some rounds of the event loop."""


def most_connections() -> int:
    """How many connections there may be, so that files are left for all else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else min(MOST, max(files - OTHER_FILES, files // 2))


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which sets no limits of its own to the head of a request, nor to its time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = most_connections()
        self._timer: asyncio.TimerHandle | None = None
        self._unfinished = 0  # bytes that came since the last whole head or piece of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hangs up at once if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the time limit."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuses a head that does not end; sets a time limit from the first byte of a request on."""
        if self._timer is None:
            self._start_timer()
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > LONGEST_HEAD and not self.transport.is_closing():
            head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unfinished = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, whose length the application limits."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: what follows takes as long as it takes."""
        self._unfinished = 0
        self._stop_timer()
        super().on_message_complete()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
