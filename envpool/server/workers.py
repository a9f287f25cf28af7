"""The worker processes of a server, as the server sees them; `worker` is what runs in them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from envpool.errors import EnvironmentFailed, EnvPoolError, SessionLost, UnknownTask
from envpool.server.hosting import STEP_SECONDS
from envpool.types import Step

logger = logging.getLogger("envpool.server")

START_SECONDS = 120.0
"""How long a worker may take to load what its environment needs."""

GRACE_SECONDS = 2.0
"""How long a worker may take to close its environments."""

LONGEST_ANSWER = 2**26
"""Bytes in one line of a worker."""


class ProcessHost:
    """Environments in worker processes, each of which makes one call at a time.

    A worker that ends or takes too long for a call is replaced when its place is needed; its sessions are lost.

    Args:
        environment: the name of the environment.
        workers: how many processes.
        imports: modules that a worker imports first; they register environments that envpool does not know.
        step_seconds: how long one call may take.
    """

    def __init__(
        self, environment: str, workers: int, *, imports: Sequence[str] = (), step_seconds: float = STEP_SECONDS
    ) -> None:
        self._command = [sys.executable, "-m", "envpool.server.worker", str(GRACE_SECONDS), environment, *imports]
        self._seconds = step_seconds
        self._workers: list[_Worker | None] = [None] * workers
        self._starting = [asyncio.Lock() for _ in self._workers]
        self._opening = [0 for _ in self._workers]

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [worker.pid for worker in self._workers if worker is not None and not worker.ended]

    async def start(self) -> None:
        """Starts all workers.

        Raises:
            EnvPoolError: one cannot make environments.
        """
        places = range(len(self._workers))
        outcomes = await asyncio.gather(*map(self._worker, places), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.aclose()
                raise outcome

    async def open(self) -> _Remote:
        """Builds an environment in the worker that holds the fewest.

        Raises:
            SessionLost: the worker ended meanwhile; another try goes to its successor.
            EnvironmentFailed: the environment could not be built.
        """
        place = min(range(len(self._workers)), key=self._load)
        self._opening[place] += 1  # or all that come while it starts would go there
        try:
            return await self._open(place)
        finally:
            self._opening[place] -= 1

    async def _open(self, place: int) -> _Remote:
        try:
            worker = await self._worker(place)
        except EnvPoolError as error:
            raise EnvironmentFailed("open", str(error)) from error
        hosted = _Remote(worker)
        try:
            await worker.call("open", hosted.number)
        except BaseException:
            worker.sessions -= 1
            raise
        return hosted

    async def aclose(self) -> None:
        """Ends all workers, with force those that take too long."""
        workers, self._workers = self._workers, [None] * len(self._workers)
        await asyncio.gather(*(worker.aclose() for worker in workers if worker is not None))

    def _load(self, place: int) -> int:
        worker = self._workers[place]
        return self._opening[place] + (0 if worker is None or worker.ended else worker.sessions)

    async def _worker(self, place: int) -> _Worker:
        async with self._starting[place]:
            worker = self._workers[place]
            if worker is None or worker.ended:
                worker = self._workers[place] = await _Worker.start(self._command, self._seconds)
            return worker


class _Remote:
    """One environment in a worker."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self.number = worker.next_number()

    @property
    def lost(self) -> bool:
        return self._worker.ended

    async def reset(self, index: int) -> str:
        text: str = await self._worker.call("reset", self.number, index)
        return text

    async def step(self, action: str) -> Step:
        return Step(*await self._worker.call("step", self.number, action))

    async def available_actions(self) -> Sequence[str]:
        actions: Sequence[str] = await self._worker.call("available_actions", self.number)
        return actions

    async def close(self) -> None:
        self._worker.sessions -= 1
        await self._worker.call("close", self.number)


class _Worker:
    """The server's end of one worker process; `start` makes one."""

    _reading: asyncio.Task[None]

    def __init__(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests, self._answers = process.stdin, process.stdout
        self._seconds = seconds
        self._pending: deque[tuple[str, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0
        self.pid = process.pid
        self.sessions = 0
        self.ended = False

    @classmethod
    async def start(cls, command: Sequence[str], seconds: float) -> _Worker:
        """Starts a process and waits until it is ready.

        Raises:
            EnvPoolError: it cannot make environments.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
            env={"OMP_NUM_THREADS": "1", **os.environ},  # there are as many workers as cores are wanted
            start_new_session=True,  # Ctrl-C is the server's; and what an environment starts can be ended with it
        )
        worker = cls(process, seconds)
        try:
            async with asyncio.timeout(START_SECONDS):
                said = await worker._answers.readline()
            trouble = json.loads(said)["error"] if said else "it ended at once"
        except BaseException as error:
            worker._end()
            if isinstance(error, TimeoutError):
                raise EnvPoolError(f"a worker was not ready within {START_SECONDS:g} s") from None
            raise
        if trouble:
            await worker._leave()
            raise EnvPoolError(f"a worker could not start: {trouble}")
        worker._reading = asyncio.create_task(worker._read())
        return worker

    def next_number(self) -> int:
        """Counts one environment more and numbers it."""
        self.sessions += 1
        self._number += 1
        return self._number

    async def call(self, call: str, *arguments: int | str) -> Any:
        """Has the worker make one call.

        Raises:
            UnknownTask: the environment has no such task.
            EnvironmentFailed: it raised, returned nonsense or took too long.
            SessionLost: the worker has ended.
        """
        if self.ended:
            raise SessionLost(call, "its worker process ended")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append((call, future))
        self._requests.write(json.dumps([call, *arguments]).encode() + b"\n")
        if len(self._pending) == 1:
            self._set_timer()
        answer = await future
        if "task" in answer:
            raise UnknownTask(answer["task"])
        if "error" in answer:
            raise EnvironmentFailed(call, answer["error"])
        return answer["value"]

    async def aclose(self) -> None:
        """Ends the worker: by force if it is in the middle of something, else when it has closed its environments."""
        if not self._pending:
            self._requests.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS + 1):
                    await self._process.wait()
        await self._leave()
        await self._reading

    async def _leave(self) -> None:
        self._end()
        self._requests.close()
        with suppress(ConnectionError):
            await self._requests.wait_closed()
        await self._process.wait()

    async def _read(self) -> None:
        try:
            while (line := await self._answers.readline()).endswith(b"\n"):
                answer = json.loads(line)
                _, future = self._pending.popleft()
                self._set_timer()
                if not future.done():  # whoever asked may have been cancelled
                    future.set_result(answer)
        except ValueError as error:
            logger.warning("the answer of a worker cannot be read, it is ended: %s", error)
        finally:
            self._end()

    def _set_timer(self) -> None:
        """Times the oldest request: the only one that the worker is busy with."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._pending:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._take_too_long)

    def _take_too_long(self) -> None:
        call, future = self._pending.popleft()
        if not future.done():
            cause = f"the environment took more than {self._seconds:g} s"
            future.set_exception(EnvironmentFailed(call, cause))
        self._end()

    def _end(self) -> None:
        """Kills the process and all that it started, and tells everyone who waits."""
        if not self.ended:
            self.ended = True
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        while self._pending:
            call, future = self._pending.popleft()
            if not future.done():
                future.set_exception(SessionLost(call, "its worker process ended"))
        self._set_timer()
