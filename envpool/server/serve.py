"""Any environment over HTTP, in its AgentGym dialect: the application, and the command ``envpool serve``.

Besides the routes of the dialect (see `dialects`) there are ``GET /health`` and ``GET /info``, and a header
``Idempotency-Key`` makes a request that is sent twice be carried out once. FastAPI and uvicorn come with the extra
``serve`` and are imported when they are needed.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from envpool.errors import EnvPoolError, MissingExtra
from envpool.imports import add_import_option, import_modules
from envpool.places.choice import host_of, read_place
from envpool.places.hosts import Host
from envpool.registry import spec_by_words
from envpool.server.asyncio_loop import STEP_SECONDS, AsyncioLoop
from envpool.server.callers import Callers
from envpool.server.sessions import SessionTable
from envpool.spec import EnvSpec, Place

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

TOKEN = "ENVPOOL_TOKEN"
"""The environment variable that holds the bearer token."""

PORT = 36001
MAX_SESSIONS = 1024
IDLE_SECONDS = 3600.0

BACKLOG = 2048
"""How many connections may wait to be accepted."""

LEAVING_SECONDS = 1
"""How long requests that are being answered may take when the server ends."""


def create_app(
    spec: EnvSpec,
    host: Host,
    *,
    token: str | None = None,
    max_sessions: int = MAX_SESSIONS,
    idle_seconds: float = IDLE_SECONDS,
    step_seconds: float = STEP_SECONDS,
    address: str | None = "127.0.0.1",
    allow_hosts: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Builds the application that serves an environment, in its AgentGym dialect or in `PLAIN` if there is none.

    Args:
        spec: the card of the environment.
        host: where the environments live; freed when the application ends.
        token: what clients have to show as bearer token; None for nothing.
        max_sessions: how many sessions there may be.
        idle_seconds: how long a session may go unused before it is closed.
        step_seconds: how long one call to an environment may take that can hang.
        address: what the server listens on, so that requests for another host are refused; None for a Unix socket,
            which no web page can reach.
        allow_hosts: further names under which clients may address the server.
        clock: tells the time in seconds.

    Raises:
        MissingExtra: FastAPI is not installed.
        EnvPoolError: something among `allow_hosts` is no name of a host.
    """
    try:
        from envpool.server.application import Application
    except ModuleNotFoundError as error:
        raise MissingExtra("envpool serve", str(error.name), "serve") from error
    table = SessionTable(
        spec, host, AsyncioLoop(step_seconds), max_sessions=max_sessions, idle_seconds=idle_seconds, clock=clock
    )
    callers = None if address is None else Callers(address, allow_hosts)
    return Application(spec, table, token=token, callers=callers).app


def serve(
    environment: str,
    options: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    uds: str | None = None,
    place: str | None = None,
    workers: int = 1,
    max_sessions: int = MAX_SESSIONS,
    idle_seconds: float = IDLE_SECONDS,
    step_seconds: float = STEP_SECONDS,
    allow_hosts: Sequence[str] = (),
    imports: Sequence[str] = (),
    parent_pipe: bool = False,
) -> None:
    """Serves an environment until SIGTERM or Ctrl-C; prints one line when it is ready.

    A bearer token in the environment variable ``ENVPOOL_TOKEN`` is required from clients; without one only this
    machine is served. A Unix socket is for this user only and needs none.

    Args:
        environment: its name.
        options: what it is configured with, each as ``name=value``.
        host: the address to listen on.
        port: 0 for one that is free.
        uds: the path of a Unix socket to listen on instead.
        place: where the environments live; None for what the card says, or `workers` if there are several.
        workers: processes in which the environments live, if there are several or `place` is ``process``.
        max_sessions: how many sessions there may be.
        idle_seconds: how long a session may go unused before it is closed.
        step_seconds: how long one call to an environment may take that can hang.
        allow_hosts: names, beside `host` and those of this machine, under which clients may address the server.
        imports: modules that register environments.
        parent_pipe: end as soon as the standard input closes.

    Raises:
        EnvPoolError: a setting is impossible, the address is taken, or the environment does not work here.
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: SIGTERM ended it.
    """
    numbers = {
        "workers": workers,
        "max-sessions": max_sessions,
        "idle-seconds": idle_seconds,
        "step-seconds": step_seconds,
    }
    for setting, value in numbers.items():
        if not value > 0:  # which nan is not either
            raise EnvPoolError(f"--{setting} {value} makes no server: it must be positive")
    token = None if uds else _token()
    if not (uds or token or _is_loopback(host)):
        raise EnvPoolError(f"{host} can be reached from elsewhere: put a secret token into the variable {TOKEN}")
    if workers > 1 and place not in (None, Place.PROCESS):
        raise EnvPoolError(f"--workers {workers} is for --place process: leave one of them out")
    import_modules(imports)
    spec = spec_by_words(environment, options)
    chosen = Place.PROCESS if place is None and workers > 1 else place and read_place(place)
    app = create_app(
        spec,
        host_of(spec, chosen or None, workers, imports=imports),
        token=token,
        max_sessions=max_sessions,
        idle_seconds=idle_seconds,
        step_seconds=step_seconds,
        address=None if uds else host,
        allow_hosts=allow_hosts,
    )
    with _ending_on_sigterm(), listening(host, port, uds) as (listener, address):
        _run(app, listener, f"envpool: serving {spec.name} at {address}", parent_pipe)


def _run(app: FastAPI, listener: socket.socket, ready: str, parent_pipe: bool) -> None:
    server = uvicorn_server(app, listener, lambda: print(ready, flush=True))
    ended = threading.Event()
    if parent_pipe:
        threading.Thread(target=_follow_stdin, args=(server, ended), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        ended.set()


def uvicorn_server(app: FastAPI, listener: socket.socket, on_ready: Callable[[], None]) -> uvicorn.Server:
    """Makes what runs an application of `create_app`.

    Args:
        app: the application.
        listener: the socket that it listens on.
        on_ready: is called when it serves.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    try:
        import uvicorn

        from envpool.server.connections import AT_ONCE, Connection, Connections, most_connections
    except ModuleNotFoundError as error:
        raise MissingExtra("envpool serve", str(error.name), "serve") from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.sessions.try_out()
            await super().startup(sockets=sockets)
            listener.listen(BACKLOG)  # asyncio has set it to as many as it accepts at once
            if self.started:
                on_ready()

    everyone = Connections(most_connections(app.state.sessions.max_sessions), app.state.max_body)
    return Server(
        uvicorn.Config(
            app,
            http=partial(Connection, everyone=everyone),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            log_level="error",  # or whoever sends nonsense fills the log
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=AT_ONCE,
            timeout_keep_alive=75,  # longer than clients keep a connection: whoever hangs up second loses requests
            timeout_graceful_shutdown=LEAVING_SECONDS,
        )
    )


def _follow_stdin(server: Any, ended: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True
    if not ended.wait(10 * LEAVING_SECONDS):  # an environment hangs in the event loop
        os._exit(1)


def _token() -> str | None:
    """The token that clients have to show, without what a file or a shell may have put around it."""
    token = os.environ.get(TOKEN, "").strip()
    if not token.isprintable():
        raise EnvPoolError(f"the variable {TOKEN} holds a control character, which no client can send: remove it")
    return token or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listening(host: str, port: int, uds: str | None) -> Iterator[tuple[socket.socket, str]]:
    """Opens the socket to listen on; yields it with its address.

    Raises:
        EnvPoolError: the address cannot be listened on.
    """
    try:
        listener = _unix_socket(uds) if uds else _tcp_socket(host, port)
    except (OSError, OverflowError) as error:
        raise EnvPoolError(f"cannot listen on {uds or f'{host}, port {port}'}: {error}") from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"unix:{uds}" if uds else f"http://{shown}:{listener.getsockname()[1]}"
    finally:
        listener.close()
        if uds:
            with suppress(FileNotFoundError):
                os.unlink(uds)


def _tcp_socket(host: str, port: int) -> socket.socket:
    # asyncio sends at once (TCP_NODELAY) only if the protocol is named; without it every answer may wait 40 ms
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # two can bind to one port, but only one can listen
    except BaseException:
        listener.close()
        raise
    return listener


def _unix_socket(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_if_dead(path)
        before = os.umask(0o177)  # nobody but this user
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)  # or another server takes it for one that was left
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_if_dead(path: str) -> None:
    """Removes a socket that a server left which was killed."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the process with exit code 0; uvicorn raises the signal again when it has cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_serve_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``envpool serve`` to the commands."""
    command = commands.add_parser("serve", help="serve an environment over HTTP, as AgentGym's servers do")
    command.add_argument("environment")
    command.add_argument("options", nargs="*", metavar="name=value", help="options of the environment")
    command.add_argument("--host", default="127.0.0.1", help=f"address to listen on; others need {TOKEN}")
    command.add_argument("--port", type=int, default=PORT, help=f"0 for a free one (default: {PORT})")
    command.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    command.add_argument("--workers", type=int, default=1, help="processes for the environments, if they live in any")
    places = [str(place) for place in Place]
    command.add_argument("--place", choices=places, help="where they live (default: as the environment says)")
    command.add_argument("--max-sessions", type=int, default=MAX_SESSIONS, help=f"default: {MAX_SESSIONS}")
    command.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="unused for longer: closed")
    command.add_argument("--step-seconds", type=float, default=STEP_SECONDS, help="time limit of one call")
    command.add_argument(
        "--allow-host",
        dest="allow_hosts",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name under which clients may address the server",
    )
    add_import_option(command)
    command.add_argument("--until-stdin-closes", dest="parent_pipe", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=_serve)


def _serve(words: argparse.Namespace) -> None:
    options = {name: value for name, value in vars(words).items() if name != "run"}
    try:
        serve(**options)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
