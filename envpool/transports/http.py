"""Sessions behind environment servers, over HTTP: the only file of envpool that knows httpx's engine.

Connections lie on a stack: one is taken for a request and put back, at a cost that does not grow with their number.
A client of httpx with its pool would look at all of them for every request; and the client itself, with its redirects,
cookies and codecs, costs more than the engine under it, httpcore, which is therefore used directly
(`benchmarks/pool.py` measures both).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import trio

from envpool.dialects import DIALECTS, PLAIN, Dialect
from envpool.errors import EnvPoolError, ServerUnreachable
from envpool.replay import ReplayingSession
from envpool.session import Session, queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.transports.endpoint import Answer, Endpoint, HttpSettings
from envpool.transports.replicas import Replicas

KEEPALIVE_SECONDS = 2.0
"""Idle connections are not used again after this: uvicorn hangs up at 5 s, and a request sent just then is lost."""

MAX_ANSWER = 64 * 2**20
"""The largest answer that is read, in bytes; the pages of web sites with their pictures are some megabytes."""


class HttpTransport:
    """Opens sessions on environment servers, AgentGym's own or those of `envpool serve`.

    A request that is safe to repeat is repeated; a session that is lost is played again, if its environment is
    deterministic, on the least loaded server that is well.

    Args:
        endpoints: the addresses of the servers of each environment, by its name; several addresses are replicas.
        settings: time limits, retries, connections.
        dialects: wire shapes that differ from those of the environments' names.

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
        self._dialects = {name: (dialects or {}).get(name) or DIALECTS.get(name, PLAIN) for name in endpoints}
        for name, several in self._endpoints.items():
            if not several:
                raise EnvPoolError(f"{name} has no address: name at least one, as in http://127.0.0.1:36001")
            for endpoint in several:
                endpoint.check()
                endpoint.secrets()
        self._replicas: dict[str, Replicas] = {}
        self._recorder: Recorder | None = None

    @asynccontextmanager
    async def running(self, recorder: Recorder | None = None) -> AsyncIterator[None]:
        """Keeps the connections; at the end closes them, and sessions that could not be closed before."""
        context = ssl.create_default_context() if self._secure() else None
        self._recorder = recorder
        try:
            async with trio.open_nursery() as nursery:
                self._replicas = {
                    name: Replicas(
                        name,
                        [Wire(endpoint, self._settings, context) for endpoint in several],
                        self._dialects[name],
                        self._settings,
                        nursery,
                        recorder,
                    )
                    for name, several in self._endpoints.items()
                }
                yield
        finally:
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
        replicas = self._replicas.get(spec.name)
        if replicas is None:
            raise EnvPoolError(f"no server is known for {spec.name}, or the transport is not running")

        async def another() -> Session:
            return await replicas.open(spec)

        first = await another()
        return ReplayingSession(spec, first, another, replays=self._settings.replays, recorder=self._recorder)

    def _secure(self) -> bool:
        return any(one.url.startswith("https:") for several in self._endpoints.values() for one in several)


class Wire:
    """The connections to one server.

    Args:
        endpoint: where it is.
        settings: limits.
        context: for HTTPS, shared by all connections.
    """

    def __init__(self, endpoint: Endpoint, settings: HttpSettings, context: ssl.SSLContext | None) -> None:
        self.address = endpoint.address
        self._url = httpcore.URL(endpoint.url)
        self._path = self._url.target.rstrip(b"/")
        host = self._url.host if self._url.port is None else b"%s:%d" % (self._url.host, self._url.port)
        secret = [(name.encode(), value.encode()) for name, value in endpoint.secrets().items()]
        self._headers = [(b"Host", host), *secret]
        self._seconds = settings.call_seconds
        self._limiter = trio.CapacityLimiter(settings.connections)
        self._idle: list[Connection] = []
        self._expired: list[Connection] = []
        self._context = context
        self._socket = endpoint.socket
        self._proxy = _proxy(self._url) if settings.trust_env and endpoint.socket is None else None

    async def exchange(self, method: str, route: str, content: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Sends one request and reads its answer.

        Args:
            method: ``GET`` or ``POST``.
            route: path, and query if any, after the endpoint's own path.
            content: the body, JSON.
            headers: besides the endpoint's own.

        Raises:
            ServerUnreachable: there was no complete answer in time.
        """
        request = self._request(method, route, content, headers)
        await self._room()
        connection = None
        try:
            with trio.move_on_after(self._seconds):
                connection = self._good_connection() or await self._connect()
                answer = await _ask(connection, request)
                if isinstance(connection, httpcore.AsyncConnectionPool) or connection.is_idle():
                    self._idle.append(connection)
                    connection = None
                return answer
        except httpcore.LocalProtocolError:  # whose text holds the header that is wrong, and that may be a secret
            text = f"{self.address}: the request is no valid HTTP; look at the headers of the endpoint"
            raise ServerUnreachable(route, text, acted=False) from None
        except _BROKEN as error:
            said = str(error) or type(error).__name__
            acted = not isinstance(error, _NOT_SENT)
            raise ServerUnreachable(route, f"{self.address}: {said}", acted=acted) from error
        finally:
            if connection is not None:
                await _discard(connection)
            self._limiter.release()
        raise ServerUnreachable(route, f"{self.address} did not answer in {self._seconds:g} s")

    async def aclose(self) -> None:
        """Closes all connections."""
        idle, self._idle, self._expired = self._idle + self._expired, [], []
        for connection in idle:
            await _discard(connection)

    async def _room(self) -> None:
        """Waits until there may be another connection; without letting other tasks run if there is room."""
        try:
            self._limiter.acquire_nowait()
        except trio.WouldBlock:
            with queueing():
                await self._limiter.acquire()

    def _good_connection(self) -> Connection | None:
        """The connection used last that is still good, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if isinstance(connection, httpcore.AsyncConnectionPool) or not connection.has_expired():
                return connection
            self._expired.append(connection)
        return None

    async def _connect(self) -> Connection:
        expired, self._expired = self._expired, []
        for connection in expired:
            await _discard(connection)
        if self._proxy is not None:
            return httpcore.AsyncHTTPProxy(
                self._proxy, ssl_context=self._context, max_connections=1, keepalive_expiry=KEEPALIVE_SECONDS
            )
        stream = await _open_stream(self._url, self._socket)
        if self._context is not None and self._url.scheme == b"https":
            stream = await stream.start_tls(self._context, server_hostname=self._url.host.decode())
        return httpcore.AsyncHTTP11Connection(self._url.origin, stream, keepalive_expiry=KEEPALIVE_SECONDS)

    def _request(self, method: str, route: str, content: bytes | None, headers: Mapping[str, str]) -> httpcore.Request:
        target = self._path + route.encode()
        url = httpcore.URL(scheme=self._url.scheme, host=self._url.host, port=self._url.port, target=target)
        sent = [*self._headers, *((name.encode(), value.encode()) for name, value in headers.items())]
        if content is not None:
            sent.append((b"Content-Type", b"application/json"))
        if method == "POST":
            sent.append((b"Content-Length", b"%d" % len(content or b"")))
        return httpcore.Request(method, url, headers=sent, content=content)


Connection = httpcore.AsyncHTTP11Connection | httpcore.AsyncConnectionPool
"""One connection; through a proxy, a pool of one."""

_BROKEN = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.ConnectionNotAvailable,
)

_NOT_SENT = (httpcore.ConnectError, httpcore.ConnectionNotAvailable)


async def _ask(connection: Connection, request: httpcore.Request) -> Answer:
    response = await connection.handle_async_request(request)
    chunks, size = [], 0
    try:
        async for chunk in response.aiter_stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                raise httpcore.ProtocolError(f"the answer is longer than {MAX_ANSWER} bytes")
    finally:
        await response.aclose()
    later = next((value.decode("latin-1") for name, value in response.headers if name.lower() == b"retry-after"), None)
    return Answer(response.status, b"".join(chunks), later)


async def _discard(connection: Connection) -> None:
    with trio.CancelScope(shield=True):
        await connection.aclose()


def _proxy(url: httpcore.URL) -> str | None:
    """The proxy that the environment variables name for an address."""
    return None if proxy_bypass(url.host.decode()) else getproxies().get(url.scheme.decode())


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that sends head and body of a request together, as the answer is waited for.

    Its calls set no time limits of their own: `Wire.exchange` sets one for them all.
    """

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._unsent = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            if self._unsent:
                unsent, self._unsent = self._unsent, b""
                await self._stream.send_all(unsent)
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error.__cause__ or error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        assert isinstance(self._stream, trio.SocketStream)
        secure = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError as error:
            raise httpcore.ConnectError(str(error.__cause__ or error)) from error
        return _Stream(secure)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            stream = self._stream
            return (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket.is_readable()
        return None


async def _open_stream(url: httpcore.URL, socket: str | None) -> _Stream:
    """Connects to a host, or to a Unix socket if one is named."""
    port = url.port or (443 if url.scheme == b"https" else 80)
    try:
        if socket is not None:
            return _Stream(await trio.open_unix_socket(socket))
        return _Stream(await trio.open_tcp_stream(url.host.decode(), port))
    except OSError as error:
        raise httpcore.ConnectError(_why(error)) from error


def _why(error: OSError) -> str:
    cause = error.__cause__  # trio says which attempts failed; the first one tells enough
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return str(cause or error)
