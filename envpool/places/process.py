"""Environments in worker processes of this machine; `worker` is what runs in them.

A worker makes one call at a time, whichever of its sessions it is for. One that ends, or takes too long for a call, or
holds too much memory, is replaced when its place is needed; its sessions are lost, and may be played again (`replay`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from envpool.errors import EnvPoolError, SessionLost
from envpool.options import options_json
from envpool.places.hosts import Loop, done, failed
from envpool.places.workers import GRACE_SECONDS, Worker
from envpool.registry import modules_of
from envpool.spec import EnvSpec

CLOSE_SECONDS = 10.0
"""How long an environment may take to close."""

ENDED = "its worker process was ended"


class ProcessHost:
    """A place for environments that are heavy, or share a process badly.

    Args:
        spec: their card.
        workers: how many processes, started when they are needed.
        imports: modules that a worker imports first, beside the one that an environment of one's own is in.
        quiet: keep what the environments print to themselves; else it goes to the standard error.

    Raises:
        EnvPoolError: there is not to be any worker, or none could know the environment.
    """

    def __init__(self, spec: EnvSpec, workers: int, *, imports: Sequence[str] = (), quiet: bool = False) -> None:
        if workers < 1:
            raise EnvPoolError(f"{spec.name} needs at least one worker process, not {workers}")
        self.workers = workers
        self._spec = spec
        options = json.dumps(options_json(spec.options))
        self._command = [sys.executable, "-m", "envpool.places.worker", str(GRACE_SECONDS)]
        self._command += [spec.name, spec.version, options, *dict.fromkeys([*imports, *modules_of(spec)])]
        self._quiet = quiet
        self._crew: list[Worker | None] = [None] * workers

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [worker.pid for worker in self._crew if worker is not None and not worker.ended]

    def open(self, loop: Loop) -> _Distant:
        """Begins to build an instance in the worker that holds the fewest."""
        place = min(range(self.workers), key=self._load)
        worker = self._crew[place]
        if worker is None or worker.ended:
            most = self._spec.most_memory
            worker = self._crew[place] = Worker(self._command, quiet=self._quiet, most_memory=most)
        return _Distant(worker, loop.seconds)

    async def aclose(self, loop: Loop) -> None:
        """Ends all workers, with force those that are in the middle of something or take too long."""
        crew, self._crew = self._crew, [None] * self.workers
        workers = [worker for worker in crew if worker is not None]
        for worker in workers:
            if worker.busy or not worker.ready:
                worker.kill(ENDED)
            worker.leave()
        for worker in workers:
            if not await loop.settle(worker.gone, GRACE_SECONDS + 2):
                worker.kill(ENDED)

    def _load(self, place: int) -> int:
        worker = self._crew[place]
        return 0 if worker is None or worker.ended else worker.sessions


class _Distant:
    """One environment in a worker."""

    queues = True
    environment = None

    def __init__(self, worker: Worker, seconds: float) -> None:
        self._worker = worker
        self._number = worker.next_number()
        self._closed = False
        self.built: Future[None] = worker.call("open", self._number, seconds=seconds)

    @property
    def lost(self) -> bool:
        return self._worker.ended

    def call(self, name: str, *arguments: Any, seconds: float) -> Future[Any]:
        if self._closed:
            return failed(SessionLost(name, "its environment is closed"))
        return self._worker.call(name, self._number, *arguments, seconds=seconds)

    def close(self) -> Future[None]:
        self._closed = True
        self._worker.sessions -= 1
        if self._worker.ended:  # and the environment with it
            return done(None)
        return self._worker.call("close", self._number, seconds=CLOSE_SECONDS)
