"""Sessions in worker processes of this machine, for environments that are heavy or not thread-safe.

A worker is ``envpool serve`` on a Unix socket. It ends with the process that started it, however that ended; one that
dies is replaced, and the sessions that were in it are played again (see `replay`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from envpool.errors import EnvPoolError, MissingExtra
from envpool.registry import is_installed
from envpool.session import Session, queueing
from envpool.spec import EnvSpec
from envpool.statistics import Recorder
from envpool.transports.endpoint import Endpoint, HttpSettings
from envpool.transports.http import HttpTransport

START_SECONDS = 120.0
"""How long a worker may take to load what its environment needs."""

END_SECONDS = 10.0
"""How long a worker may take to end before it is killed."""

ATTEMPTS = 5
"""How often in a row a worker may fail to start again before the run is given up."""

PAUSE = 0.5
"""Seconds to the second attempt; each further one waits as much longer."""


class ProcessTransport:
    """Opens sessions in worker processes, which are started when an environment is first asked for.

    Args:
        workers: processes per environment.
        imports: modules that a worker imports first; an environment's own module is imported in any case.
        settings: time limits, retries, replays.

    Raises:
        EnvPoolError: `workers` is not positive.
        MissingExtra: the extra ``serve`` is not installed.
    """

    def __init__(self, workers: int = 2, *, imports: Sequence[str] = (), settings: HttpSettings | None = None) -> None:
        if workers < 1:
            raise EnvPoolError(f"a transport needs at least one worker process, not {workers}")
        for package in ("fastapi", "uvicorn"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtra("playing in worker processes", package, "serve")
        self._workers = workers
        self._imports = list(imports)
        self._settings = settings or HttpSettings()
        self._recorder: Recorder | None = None
        self._nursery: trio.Nursery | None = None
        self._crews: dict[str, _Crew] = {}
        self._end = trio.Event()

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [worker.pid for crew in self._crews.values() for worker in crew.workers if worker.pid is not None]

    @asynccontextmanager
    async def running(self, recorder: Recorder | None = None) -> AsyncIterator[None]:
        """Keeps the worker processes; at the end closes the sessions in them and ends them."""
        self._recorder, self._end, self._crews = recorder, trio.Event(), {}
        with tempfile.TemporaryDirectory(prefix="envpool-") as folder:
            self._folder = Path(folder)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    self._end.set()

    async def open(self, spec: EnvSpec) -> Session:
        """Opens one session in the worker that holds the fewest.

        Raises:
            EnvPoolError: the workers cannot be started.
            EnvironmentFailed: none could open a session.
        """
        crew = self._crews.get(spec.name)
        if crew is None:
            if self._nursery is None:
                raise EnvPoolError("the transport is not running")
            crew = _Crew(spec, self._workers, self._folder, self._command(spec), self._settings)
            self._crews[spec.name] = crew
            self._nursery.start_soon(crew.work, self._recorder, self._end)
        with queueing():  # loading may take longer than a step
            await crew.begun.wait()
        if crew.failure is not None:
            self._crews.pop(spec.name, None)  # who comes next may try again
            raise EnvPoolError(crew.failure)
        return await crew.transport.open(spec)

    def _command(self, spec: EnvSpec) -> list[str]:
        imports = list(self._imports)
        if not is_installed(spec.name):
            module = spec.make.__module__
            if module == "__main__":
                raise EnvPoolError(f"worker processes cannot import {spec.name}: put it into a module of its own")
            imports.append(module)
        command = [sys.executable, "-m", "envpool", "serve", spec.name, "--until-stdin-closes"]
        command += ["--max-sessions", str(self._settings.connections)]
        return command + [word for module in imports for word in ("--import", module)]


class _Crew:
    """The workers of one environment.

    Attributes:
        begun: set when the workers serve, or cannot be started.
        failure: why they cannot.
        transport: opens sessions in them.
    """

    def __init__(self, spec: EnvSpec, count: int, folder: Path, command: Sequence[str], settings: HttpSettings) -> None:
        sockets = [folder / f"{spec.name}-{number}.socket" for number in range(count)]
        self.workers = [_Worker(spec.name, [*command, "--uds", str(socket)], socket) for socket in sockets]
        endpoints = [Endpoint(f"http://{spec.name}", socket=str(socket)) for socket in sockets]
        self.transport = HttpTransport({spec.name: endpoints}, settings=replace(settings, trust_env=False))
        self.begun = trio.Event()
        self.failure: str | None = None

    async def work(self, recorder: Recorder | None, end: trio.Event) -> None:
        """Starts the workers and keeps them until the end, also while everything around is being cancelled.

        Raises:
            EnvPoolError: they served, and then one could not be started again.
        """
        with trio.CancelScope(shield=True):
            try:
                await self._start(end)
                if not end.is_set():
                    await self._serve(recorder, end)
            except BaseExceptionGroup as group:  # of several that cannot start one is enough
                failure: BaseException = group
                while isinstance(failure, BaseExceptionGroup):
                    failure = failure.exceptions[0]
                if self.begun.is_set() or not isinstance(failure, EnvPoolError):
                    raise failure from None
                self.failure = str(failure)
            finally:
                self.begun.set()
                async with trio.open_nursery() as ending:
                    for worker in self.workers:
                        ending.start_soon(worker.end)

    async def _start(self, end: trio.Event) -> None:
        """Starts the workers, unless the end comes first."""
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await end.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            async with trio.open_nursery() as starting:
                for worker in self.workers:
                    starting.start_soon(worker.start)
            nursery.cancel_scope.cancel()

    async def _serve(self, recorder: Recorder | None, end: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(worker.keep)
            async with self.transport.running(recorder):
                self.begun.set()
                await end.wait()
            nursery.cancel_scope.cancel()


class _Worker:
    """One worker process."""

    def __init__(self, name: str, command: Sequence[str], socket: Path) -> None:
        self._name = name
        self._command = command
        self._log = socket.with_suffix(".log")
        self._process: trio.Process | None = None
        self._serving = False

    @property
    def pid(self) -> int | None:
        """Its process id; None if it does not live."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts the process and waits until it serves.

        Raises:
            EnvPoolError: it does not.
        """
        self._serving = False
        path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
        with self._log.open("wb") as log:
            self._process = process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the process that started it
            )
        assert process.stdout is not None
        ready = b""
        with trio.move_on_after(START_SECONDS) as starting:
            while not ready.endswith(b"\n") and (part := await process.stdout.receive_some()):
                ready += part
        if not ready.endswith(b"\n"):
            await self.end()
            said = self._log.read_text(errors="replace").strip().splitlines()
            late = f"it was not ready within {START_SECONDS:g} s" if starting.cancelled_caught else "it ended at once"
            why = said[-1].removeprefix("envpool: ") if said else late
            raise EnvPoolError(f"a worker process of {self._name} could not start: {why}")
        self._serving = True

    async def keep(self) -> None:
        """Starts the process again whenever it dies.

        Raises:
            EnvPoolError: it could not be started several times in a row.
        """
        failures = 0
        while True:
            assert self._process is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._drain, self._process)
                await self._process.wait()
                nursery.cancel_scope.cancel()
            await self._close_pipes()
            try:
                await self.start()
                failures = 0
            except EnvPoolError:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                await trio.sleep(PAUSE * failures)

    @staticmethod
    async def _drain(process: trio.Process) -> None:
        """Reads what the environment prints, or it would wait for ever once the pipe is full."""
        assert process.stdout is not None
        async for _ in process.stdout:
            pass

    async def end(self) -> None:
        """Ends the process: it goes when its input closes, or is killed; at once if it does not serve yet."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        if not self._serving and process.returncode is None:
            process.kill()
        await process.stdin.aclose()
        with trio.move_on_after(END_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await self._close_pipes()

    async def _close_pipes(self) -> None:
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                await pipe.aclose()
