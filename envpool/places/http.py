"""Sessions behind environment servers, over HTTP.

Connections lie on a stack: one is taken for a request and put back, at a cost that does not grow with their number.
A client library with its pool would look at all of them for every request (`benchmarks/pool.py` measures both), and
would not tell whether a server said more than was asked for (`connection`).
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11
import trio

from envpool.dialects import Dialect
from envpool.errors import EnvPoolError, ServerUnreachable
from envpool.places.connection import Connection, ConnectionFailed, Received, Socket, Stream
from envpool.places.endpoint import Answer, Endpoint, HttpSettings
from envpool.places.replicas import Replicas
from envpool.replay import ReplayingSession
from envpool.session import Session, queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder


class HttpTransport:
    """Opens sessions on environment servers, AgentGym's own or those of `envpool serve`.

    A request that is safe to repeat is repeated; a session that is lost is played again, if its environment is
    deterministic, on the least loaded server that is well.

    Args:
        endpoints: the addresses of the servers of each environment, by its name; several addresses are replicas.
        settings: time limits, retries, connections.
        dialects: wire shapes that differ from those of the environments' cards, by name.

    Raises:
        EnvPoolError: an address is none, or an environment variable that a token comes from is not set.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Sequence[str | Endpoint]],
        *,
        settings: HttpSettings | None = None,
        dialects: Mapping[str, Dialect] | None = None,
    ) -> None:
        self._settings = settings or HttpSettings()
        self._endpoints = {
            name: [Endpoint(one) if isinstance(one, str) else one for one in several]
            for name, several in endpoints.items()
        }
        self._dialects = dict(dialects or {})
        for name, several in self._endpoints.items():
            if not several:
                raise EnvPoolError(f"{name} has no address: name at least one, as in http://127.0.0.1:36001")
            for endpoint in several:
                endpoint.check()
                endpoint.secrets()
        self._replicas: dict[str, Replicas] = {}
        self._recorder: Recorder | None = None
        self._nursery: trio.Nursery | None = None
        self._context: ssl.SSLContext | None = None

    @asynccontextmanager
    async def running(self, recorder: Recorder | None = None) -> AsyncIterator[None]:
        """Keeps the connections; at the end closes them, and sessions that could not be closed before."""
        self._context = ssl.create_default_context() if self._secure() else None
        self._recorder = recorder
        try:
            async with trio.open_nursery() as self._nursery:
                yield
        finally:
            self._nursery = None
            replicas, self._replicas = self._replicas, {}
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as finishing:
                    for several in replicas.values():
                        finishing.start_soon(several.finish)

    async def open(self, spec: EnvSpec) -> Session:
        """Opens one session, on the least loaded server that is well.

        Raises:
            EnvironmentFailed: no server could open one.
        """
        replicas = self._replicas.get(spec.name) or self._servers_of(spec)

        async def another() -> Session:
            return await replicas.open(spec)

        first = await another()
        return ReplayingSession(spec, first, another, replays=self._settings.replays, recorder=self._recorder)

    def _servers_of(self, spec: EnvSpec) -> Replicas:
        if self._nursery is None or spec.name not in self._endpoints:
            raise EnvPoolError(f"no server is known for {spec.name}, or the transport is not running")
        found = self._replicas[spec.name] = Replicas(
            spec.name,
            [Wire(endpoint, self._settings, self._context) for endpoint in self._endpoints[spec.name]],
            self._dialects.get(spec.name, spec.dialect),
            self._settings,
            self._nursery,
            self._recorder,
        )
        return found

    def _secure(self) -> bool:
        return any(one.url.startswith("https:") for several in self._endpoints.values() for one in several)


class Wire:
    """The connections to one server.

    Args:
        endpoint: where it is.
        settings: limits.
        context: for HTTPS, shared by all connections.

    Raises:
        EnvPoolError: a proxy is to be used that is none.
    """

    def __init__(self, endpoint: Endpoint, settings: HttpSettings, context: ssl.SSLContext | None) -> None:
        self.address = endpoint.address
        self._url = urlsplit(endpoint.url)
        self._proxy = _proxy(self._url) if settings.trust_env and endpoint.socket is None else None
        self._secure = self._url.scheme == "https"
        self._target = self._url.path.rstrip("/")
        self._headers = [(b"Host", self._url.netloc.rpartition("@")[2].encode("idna"))]
        self._headers += [(name.encode(), value.encode()) for name, value in endpoint.secrets().items()]
        if self._proxy is not None and not self._secure:  # a proxy needs the whole address
            self._target = f"{self._url.scheme}://{self._url.netloc}{self._target}"
            self._headers += _authorization(self._proxy)
        self._seconds = settings.call_seconds
        self._limiter = trio.CapacityLimiter(settings.connections)
        self._idle: list[Connection] = []
        self._useless: list[Connection] = []
        self._context = (context or ssl.create_default_context()) if self._secure else None
        self._socket = endpoint.socket

    async def exchange(
        self,
        method: str,
        route: str,
        content: bytes | None,
        headers: Mapping[str, str],
        doubt: Callable[[Received], str | None] | None = None,
    ) -> Answer:
        """Sends one request and reads its answer.

        Args:
            method: ``GET`` or ``POST``.
            route: path, and query if any, after the endpoint's own path.
            content: the body, JSON.
            headers: besides the endpoint's own.
            doubt: says why an answer cannot be that to this request, if it cannot.

        Raises:
            ServerUnreachable: there was no answer in time that can be believed.
        """
        try:
            request = self._request(method, route, content, headers)
        except (h11.LocalProtocolError, UnicodeError):  # whose text holds what is wrong, and that may be a secret
            text = f"{self.address}: the request is no valid HTTP; look at the headers of the endpoint"
            raise ServerUnreachable(route, text, acted=False) from None
        await self._room()
        try:
            with trio.move_on_after(self._seconds):
                answer = await self._ask(request, content, doubt)
                return Answer(answer.status, answer.body, answer.header(b"retry-after"))
        except ConnectionFailed as failure:
            text = f"{self.address}: {failure}"
            raise ServerUnreachable(route, text, acted=failure.sent, heard=failure.heard) from failure
        finally:
            self._limiter.release()
        raise ServerUnreachable(route, f"{self.address} did not answer in {self._seconds:g} s")

    async def aclose(self) -> None:
        """Closes all connections."""
        idle, self._idle = self._idle, []
        self._useless += idle
        await self._discard()

    async def _room(self) -> None:
        """Waits until there may be another connection; without letting other tasks run if there is room."""
        try:
            self._limiter.acquire_nowait()
        except trio.WouldBlock:
            with queueing():
                await self._limiter.acquire()

    async def _ask(
        self, request: h11.Request, content: bytes | None, doubt: Callable[[Received], str | None] | None
    ) -> Received:
        """Asks over the connection used last that is still good, or over another one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.expired:
                self._useless.append(connection)
                continue
            try:
                return await self._ask_over(connection, request, content, doubt)
            except ConnectionFailed as failure:
                if failure.sent:
                    raise
        await self._discard()
        return await self._ask_over(Connection(await self._connect()), request, content, doubt)

    async def _ask_over(
        self,
        connection: Connection,
        request: h11.Request,
        content: bytes | None,
        doubt: Callable[[Received], str | None] | None,
    ) -> Received:
        good = False
        try:
            answer = await connection.ask(request, content)
            if doubt is not None and (why := doubt(answer)) is not None:
                raise ConnectionFailed(f"answered {answer.status}, but {why}", sent=True, heard=True)
            good = connection.reusable
            return answer
        finally:
            if good:
                self._idle.append(connection)
            else:
                with trio.CancelScope(shield=True):
                    await connection.aclose()

    async def _discard(self) -> None:
        """Closes the connections that were idle for too long."""
        useless, self._useless = self._useless, []
        with trio.CancelScope(shield=True):
            for connection in useless:
                await connection.aclose()

    async def _connect(self) -> Stream:
        try:
            if self._socket is not None:
                return Socket(await trio.open_unix_socket(self._socket))
            nearest = self._proxy or self._url
            stream: Stream = Socket(await trio.open_tcp_stream(nearest.hostname or "", _port(nearest)))
        except OSError as error:
            raise ConnectionFailed(_why(error), sent=False) from error
        try:
            if self._proxy is not None:
                if self._proxy.scheme == "https":
                    stream = await _secured(stream, ssl.create_default_context(), self._proxy)
                if self._secure:
                    host = f"[{self._url.hostname}]" if ":" in (self._url.hostname or "") else self._url.hostname
                    await Connection(stream).tunnel(f"{host}:{_port(self._url)}", _authorization(self._proxy))
            if self._context is not None:
                stream = await _secured(stream, self._context, self._url)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    def _request(self, method: str, route: str, content: bytes | None, headers: Mapping[str, str]) -> h11.Request:
        sent = [*self._headers, *((name.encode(), value.encode()) for name, value in headers.items())]
        if content is not None:
            sent.append((b"Content-Type", b"application/json"))
        if method == "POST":
            sent.append((b"Content-Length", b"%d" % len(content or b"")))
        return h11.Request(method=method, target=f"{self._target}{route}", headers=sent)


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _proxy(url: SplitResult) -> SplitResult | None:
    """The proxy that the environment variables name for an address.

    Raises:
        EnvPoolError: it is none.
    """
    named = None if proxy_bypass(url.netloc.rpartition("@")[2]) else getproxies().get(url.scheme)
    if not named:
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise EnvPoolError(f"{url.scheme.upper()}_PROXY names no HTTP proxy: write it as http://host:port")
    return proxy


def _authorization(proxy: SplitResult) -> list[tuple[bytes, bytes]]:
    if proxy.username is None:
        return []
    shown = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(shown))]


async def _secured(stream: Stream, context: ssl.SSLContext, url: SplitResult) -> Stream:
    """Encrypts what is sent to a server over a connection to it."""
    secure: trio.SSLStream[Any] = trio.SSLStream(stream, context, server_hostname=url.hostname, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        raise ConnectionFailed(str(error.__cause__ or error), sent=False) from error
    return secure


def _why(error: OSError) -> str:
    cause: BaseException | None = error.__cause__  # trio says which attempts failed; the first one tells enough
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    first = cause if isinstance(cause, OSError) else error
    number = first.errno or 0  # below 0 for names that nobody knows
    return os.strerror(number) if number > 0 else str(first)
