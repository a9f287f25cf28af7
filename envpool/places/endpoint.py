"""Where a server is, how patient we are with it, and when we leave it alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import trio

from envpool.errors import EnvPoolError, ServerUnreachable
from envpool.places.connection import Received
from envpool.session import note_failure


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of an environment server. Secrets are named here, never written.

    Attributes:
        url: as in ``http://127.0.0.1:36001``, with the path under which the server lives, if any.
        token: the environment variable that holds the bearer token.
        headers: headers to send: the name of the header to the environment variable that holds its value.
        socket: a Unix socket to connect to instead of the host of `url`.
    """

    url: str
    token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    socket: str | None = None

    @property
    def address(self) -> str:
        """How errors name it."""
        return self.socket or self.url

    def check(self) -> None:
        """Makes sure that `url` is an address.

        Raises:
            EnvPoolError: it is none, or holds a password.
        """
        try:
            parts = urlsplit(self.url)
            host = (parts.hostname or "").encode("idna")
            usable = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        except ValueError:  # brackets that do not close, a port that is none, a name that no host can have
            usable = False
        if not usable:
            raise EnvPoolError(f"{self.url!r} is no address: write it as http://host:port")
        if parts.username or parts.password:
            raise EnvPoolError("an address must not hold a password: put it in an environment variable (`token`)")

    def secrets(self) -> dict[str, str]:
        """The headers with the values of their environment variables.

        Raises:
            EnvPoolError: a variable is not set, or holds what no header can.
        """
        found = {header: _variable(name) for header, name in self.headers.items()}
        if self.token is not None:
            found["Authorization"] = f"Bearer {_variable(self.token)}"
        return found


def _variable(name: str) -> str:
    if name not in os.environ:
        raise EnvPoolError(f"the environment variable {name} is not set: it holds a secret of an environment server")
    value = os.environ[name].strip()  # a secret that was read from a file ends with a line break
    if not value:
        raise EnvPoolError(f"the environment variable {name} is empty: it holds a secret of an environment server")
    if not value.isprintable():
        raise EnvPoolError(f"the environment variable {name} holds a control character: no header can carry it")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How servers are treated."""

    call_seconds: float = 60.0
    """Time limit of one request."""
    retries: int = 6
    """How often a request is repeated if that is safe."""
    backoff_seconds: float = 0.1
    """Longest pause before the first repetition; doubles with each, up to `backoff_limit`; drawn at random below."""
    backoff_limit: float = 5.0
    """Longest pause before any repetition."""
    replays: int = 3
    """How often an episode is played again from its reset because of one call that failed."""
    connections: int = 4096
    """Connections to one server at once, at most."""
    trust_env: bool = False
    """Use the proxies that HTTP_PROXY and its like name."""
    keep_sessions: bool = False
    """Reset a session for the next episode rather than close it. Sessions that take long to create are then created
    once; whether one that was used before answers as a fresh one does is up to the server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent back.

    Attributes:
        status: HTTP status.
        content: the body.
        retry_after: the header of that name.
    """

    status: int
    content: bytes
    retry_after: str | None = None


class Exchange(Protocol):
    """Sends requests to one server."""

    @property
    def address(self) -> str:
        """How errors name the server."""

    async def exchange(
        self,
        method: str,
        route: str,
        content: bytes | None,
        headers: Mapping[str, str],
        doubt: Callable[[Received], str | None] | None = None,
    ) -> Answer:
        """Sends one request and reads its answer; `doubt` says why an answer cannot be that to this request.

        Raises:
            ServerUnreachable: there was no answer in time that can be believed.
        """

    async def aclose(self) -> None:
        """Closes all connections."""


class Breaker:
    """Keeps requests away from a server that does not answer, and lets one through now and then to see.

    Args:
        address: how errors name the server.
    """

    THRESHOLD = 5
    """So many failures in a row open the breaker."""
    FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
    """Seconds until the next attempt; the pause doubles with every attempt that fails."""

    def __init__(self, address: str) -> None:
        self._why = f"{address} does not answer"
        self._failures = 0
        self._pause = self.FIRST_PAUSE
        self._until = 0.0
        self._trying = False
        self._changed = trio.Event()

    @property
    def open(self) -> bool:
        """Whether the server is left alone."""
        return self._failures >= self.THRESHOLD

    async def admit(self, *, patient: bool) -> None:
        """Returns when a request may be sent; `succeeded`, `failed` or `unknown` must follow.

        Args:
            patient: wait for the server to come back rather than fail at once.

        Raises:
            ServerUnreachable: the server is left alone, and the caller has no patience; the cause is what was wrong
                with it when it was last asked.
        """
        while self.open:
            if not self._trying and trio.current_time() >= self._until:
                self._trying = True
                return
            failure = ServerUnreachable("connect", self._why, acted=False)
            if not patient:
                raise failure
            note_failure(failure)
            changed = self._changed
            with trio.move_on_at(self._until if not self._trying else float("inf")):
                await changed.wait()

    def succeeded(self) -> None:
        """The server answered."""
        if self._failures:
            self._failures, self._pause = 0, self.FIRST_PAUSE
            self._wake()

    def failed(self, why: str) -> None:
        """The server did not answer.

        Args:
            why: what was wrong, in one line with its address.
        """
        was_trying = self._trying
        self._failures += 1
        self._why = why
        if self._failures == self.THRESHOLD or (self.open and was_trying):
            self._until = trio.current_time() + self._pause
            self._pause = min(2 * self._pause, self.LONGEST_PAUSE)
            self._wake()

    def unknown(self) -> None:
        """The request was given up before there was an answer."""
        if self._trying:
            self._wake()

    def _wake(self) -> None:
        self._trying = False
        self._changed.set()
        self._changed = trio.Event()
