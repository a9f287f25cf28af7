"""A worker process as its parent sees it: a pipe that never blocks, and the calls that wait for their turn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from envpool.errors import EnvironmentFailed, EnvPoolError, SessionLost, UnknownTask
from envpool.places.hosts import Loop, failed
from envpool.types import Action, Step

START_SECONDS = 120.0
"""How long a worker may take to load what its environment needs."""

GRACE_SECONDS = 2.0
"""How long a worker may take to close its environments."""

LONGEST_ANSWER = 2**26
"""Bytes in one line of a worker."""

PIECE = 2**16
"""Bytes that are read at once."""

LAST_WORDS = 2000
"""Bytes of the log in which the reason is looked for that a worker ended."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call that a worker has not answered yet."""

    name: str
    seconds: float
    future: Future[Any]


class Worker:
    """One worker process. All of it is used in the thread of the event loop.

    Args:
        command: starts it.
        loop: the event loop.
        quiet: keep what it prints to itself; else it goes to the standard error.

    Attributes:
        pid: its process id, which is that of its process group too.
        sessions: how many environments it holds.
        ended: whether it is of no more use.
        gone: holds None once the process is no more.
    """

    def __init__(self, command: Sequence[str], loop: Loop, *, quiet: bool) -> None:
        self._log: IO[bytes] | None = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115  # `_end` closes it
        path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path},  # as many workers as cores are wanted
            start_new_session=True,  # Ctrl-C is the parent's; and what an environment starts can be ended with it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._in, self._out = self._stdin.fileno(), self._stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self.pid, self.sessions, self.ended = self._process.pid, 0, False
        self.gone: Future[None] = Future()
        self._loop = loop
        self._pending: deque[_Asked] = deque()
        self._since = time.monotonic()  # the oldest call has had its turn, or the process was started
        self._ready = self._leaving = self._blocked = False
        self._number = 0
        self._unsent, self._unread = bytearray(), bytearray()
        self._base = 0  # megabytes that it held before its first environment
        loop.reading(self._out, self._receive)

    def next_number(self) -> int:
        """Counts one environment more and numbers it."""
        self.sessions += 1
        self._number += 1
        return self._number

    def call(self, name: str, number: int, *arguments: int | Action, seconds: float) -> Future[Any]:
        """Has the worker make one call, which may take so many seconds once it has its turn."""
        if self.ended or self._leaving:
            return failed(SessionLost(name, "its worker process ended"))
        if not self._pending:
            self._since = time.monotonic() if self._ready else self._since  # it starts once
        asked = _Asked(name, seconds, Future())
        self._pending.append(asked)
        plain = [argument if isinstance(argument, int | str) else asdict(argument) for argument in arguments]
        self._unsent += json.dumps([name, number, *plain]).encode() + b"\n"
        self._send()
        return asked.future

    def look(self) -> None:
        """Ends the process if it takes too long for the oldest call, the only one that it is busy with, or to start."""
        waited = time.monotonic() - self._since
        if not self._ready:
            if waited > START_SECONDS:
                self._fail_to_start(f"a worker was not ready within {START_SECONDS:g} s")
        elif self._pending and waited > self._pending[0].seconds:
            asked = self._pending.popleft()
            limit = round(asked.seconds, 1 if asked.seconds > 1 else 2)
            asked.future.set_exception(EnvironmentFailed(asked.name, f"the environment took more than {limit:g} s"))
            self.end("its worker process hung in another call and was ended")

    def weigh(self, held: int, most: int) -> None:
        """Ends the process if it holds more than it may.

        Args:
            held: megabytes that it and what it started hold now.
            most: megabytes for each of its sessions, beside what it held before the first one.
        """
        if self._ready and held > self._base + most * max(self.sessions, 1):
            shown = f"{self.sessions} session{'' if self.sessions == 1 else 's'} of {most:,} MB"
            self.end(f"its worker process held {held - self._base:,} MB, which is more than {shown} (most_memory)")

    def leave(self) -> None:
        """Has the process end by itself when it has closed its environments; by force if it is not idle."""
        if self.ended:
            return
        if self._pending or not self._ready:
            self.end("its worker process was ended")
            return
        self._leaving = True
        self._loop.forget(self._in)
        self._stdin.close()

    def end(self, cause: str) -> None:
        """Kills the process and all that it started, and tells everyone who waits why."""
        self._end([SessionLost(asked.name, cause) for asked in self._pending])

    def _fail_to_start(self, why: str) -> None:
        self._end([EnvPoolError(f"a worker could not start: {why}") for _ in self._pending])

    def _end(self, errors: Sequence[EnvPoolError]) -> None:
        if self.ended:
            return
        self.ended = True
        self._loop.forget(self._in)
        self._loop.forget(self._out)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._stdin.close()
        self._stdout.close()
        if self._log is not None:
            self._log.close()
        threading.Thread(target=self._bury, daemon=True).start()  # a large process takes its time to die
        pending, self._pending = self._pending, deque()
        for asked, error in zip(pending, errors, strict=True):
            asked.future.set_exception(error)

    def _bury(self) -> None:
        self._process.wait()
        self.gone.set_result(None)

    def _send(self) -> None:
        """Writes what the pipe takes; the rest follows when the worker has read some."""
        try:
            sent = os.write(self._in, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # it has ended, which its output says too
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            if self._blocked:
                self._loop.forget(self._in)
            self._blocked = False
        elif not self._blocked:
            self._blocked = True
            self._loop.writing(self._in, self._send)

    def _receive(self) -> None:
        try:
            piece = os.read(self._out, PIECE)
        except BlockingIOError:
            return
        self._unread += piece
        if not piece or len(self._unread) > LONGEST_ANSWER:
            self._die()
        elif b"\n" in piece:
            *lines, rest = self._unread.split(b"\n")
            self._unread = rest
            for line in lines:
                if not self.ended:
                    self._take(line)

    def _take(self, line: bytearray) -> None:
        """Reads one answer of the worker, or that it is ready."""
        said = json.loads(line)
        self._since = time.monotonic()
        if self._ready:
            asked = self._pending.popleft()
            _settle(asked, said)
        elif said["error"] is not None:
            self._fail_to_start(said["error"])
        else:
            self._ready, self._base = True, said["memory"]

    def _die(self) -> None:
        """The process has ended, or says more than anybody can read."""
        words = ""
        if self._log is not None:
            self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, self._log.tell() - LAST_WORDS))
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            words = f": {lines[-1].strip()}" if lines else ""
        self.end(f"its worker process ended{words}" if self._ready else f"a worker ended before it was ready{words}")


def _settle(asked: _Asked, said: dict[str, Any]) -> None:
    if "value" in said:
        value = said["value"]
        asked.future.set_result(Step(*value) if asked.name == "step" else value)
    elif "task" in said:
        asked.future.set_exception(UnknownTask(said["task"]))
    elif "missing" in said:
        asked.future.set_exception(EnvPoolError(said["missing"]))
    else:
        asked.future.set_exception(EnvironmentFailed(asked.name, said["error"]))
