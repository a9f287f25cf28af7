"""A worker process as its parent sees it, driven by a thread of its own."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from envpool.errors import EnvironmentFailed, EnvPoolError, SessionLost, UnknownTask
from envpool.places.hosts import failed
from envpool.places.memory import resident_memory
from envpool.types import Action, Step

START_SECONDS = 120.0
"""How long a worker may take to load what its environment needs."""

GRACE_SECONDS = 2.0
"""How long a worker may take to close its environments."""

LOOK_SECONDS = 0.25
"""How often the time and the memory of a worker are looked at."""

AHEAD = 2**15
"""Bytes of calls that are written before they have their turn; a pipe holds them, so that writing never waits."""

PIECE = 2**16
"""Bytes that are read at once."""

LONGEST_ANSWER = 2**26
"""Bytes in one line of a worker."""

LAST_WORDS = 2000
"""Bytes of the log in which the reason is looked for that a worker ended."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call that a worker has not answered yet."""

    name: str
    seconds: float
    line: bytes
    future: Future[Any]


class _Ended(Exception):
    """The worker is of no more use; `make` makes the error for each call that waits."""

    def __init__(self, make: Callable[[str], EnvPoolError]) -> None:
        self.make = make


class Worker:
    """One worker process.

    Args:
        command: starts it.
        quiet: keep what it prints to itself; else it goes to the standard error.
        most_memory: megabytes for each of its sessions, beside what it holds before the first one; None for any amount.

    Attributes:
        pid: its process id, which is that of its process group too.
        sessions: how many environments it holds.
        ready: whether it has loaded what its environment needs.
        ended: whether it is of no more use.
        gone: holds None once the process is no more.
    """

    def __init__(self, command: Sequence[str], *, quiet: bool, most_memory: int | None) -> None:
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
        self._in, self._out = self._process.stdin, self._process.stdout
        self.pid, self.sessions, self.ready, self.ended = self._process.pid, 0, False, False
        self.gone: Future[None] = Future()
        self._most_memory, self._number = most_memory, 0
        self._lock = threading.Lock()
        self._new: deque[_Asked] = deque()
        self._leaving = self._awake = False
        self._cause: str | None = None
        self._why = _lost("its worker process ended")
        self._bell, self._ring = os.pipe()
        self._sent: deque[_Asked] = deque()  # this and what follows is the thread's
        self._lines: deque[bytes] = deque()
        self._rest, self._ahead = bytearray(), 0
        self._base = 0  # megabytes that it held before its first environment
        self._since = self._looked = time.monotonic()  # the oldest call has had its turn; its memory was looked at
        self._poll = select.poll()
        for file in (self._bell, self._out.fileno()):
            self._poll.register(file, select.POLLIN)
        threading.Thread(target=self._drive, name=f"worker {self.pid}", daemon=True).start()

    def next_number(self) -> int:
        """Counts one environment more and numbers it."""
        self.sessions += 1
        self._number += 1
        return self._number

    @property
    def busy(self) -> bool:
        """Whether a call waits for its answer."""
        return bool(self._new or self._sent)

    def call(self, name: str, number: int, *arguments: int | Action, seconds: float) -> Future[Any]:
        """Has the worker make one call, which may take `seconds` from its turn on."""
        plain = [argument if isinstance(argument, int | str) else asdict(argument) for argument in arguments]
        asked = _Asked(name, seconds, json.dumps([name, number, *plain]).encode() + b"\n", Future())
        with self._lock:
            if self.ended or self._leaving:
                return failed(self._why(name))
            self._new.append(asked)
            if self.ready:
                self._write()  # which never waits, and most often leaves nothing to the thread
            if self._new:
                self._wake()
        return asked.future

    def leave(self) -> None:
        """Has the process end by itself when it has answered and closed its environments."""
        with self._lock:
            self._leaving = True
            if not self.ended:
                self._wake()

    def kill(self, cause: str) -> None:
        """Kills the process and all that it started; those who wait are told why."""
        with self._lock:
            self._cause = self._cause or cause
            if self._process.returncode is not None:  # another process may have its id by now
                return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            os.write(self._ring, b"!")

    def _drive(self) -> None:
        """Writes calls and reads answers until there are no more."""
        why = _lost("its worker process ended")
        try:
            self._serve()
            self._in.close()  # it closes its environments and ends, and with it its output
            self._poll.unregister(self._bell)
            self._poll.poll(1000 * (GRACE_SECONDS + 1))
        except _Ended as ended:
            why = ended.make
        except ValueError:
            why = _lost("its worker process said what cannot be read")
        finally:
            self._end(why)

    def _serve(self) -> None:
        self._start()
        while not (self._leaving and not self.busy):
            if (line := self._line(self._sent[0].seconds if self._sent else math.inf)) is not None:
                said = json.loads(line)
                with self._lock:
                    asked = self._sent.popleft()
                    self._ahead -= len(asked.line)
                    self._since = time.monotonic()
                    self._write()
                _settle(asked, said)
            if self._new and not self._sent:  # larger than a pipe
                self._write_large()

    def _start(self) -> None:
        while (line := self._line(START_SECONDS)) is None:
            pass
        said = json.loads(line)
        if said["error"] is not None:
            raise _Ended(lambda name: EnvPoolError(f"a worker could not start: {said['error']}"))
        self._base = said["memory"]
        with self._lock:
            self.ready = True
            self._write()

    def _write(self) -> None:
        """Writes what a pipe holds of the calls that wait; the lock is held."""
        while self._new and self._ahead + len(self._new[0].line) <= AHEAD:
            self._write_one()

    def _write_large(self) -> None:
        """Writes the one call that has its turn: the worker reads it while it is written."""
        with self._lock:
            asked = self._write_one(0)
        rest = memoryview(asked.line)
        with suppress(OSError):  # it has ended, which its output says too
            while rest:
                rest = rest[os.write(self._in.fileno(), rest) :]

    def _write_one(self, most: int = AHEAD) -> _Asked:
        if not self._sent:
            self._since = time.monotonic()
        asked = self._new.popleft()
        self._sent.append(asked)
        self._ahead += len(asked.line)
        with suppress(OSError):
            os.write(self._in.fileno(), asked.line[:most])
        return asked

    def _line(self, seconds: float) -> bytes | None:
        """The next line of the worker; None if another call may be written first, or if there is none yet.

        Raises:
            _Ended: the process has ended, takes more than `seconds`, or holds too much memory.
        """
        if not self._lines:
            now = time.monotonic()
            self._look(now, seconds)
            wait = min(LOOK_SECONDS, max(self._since + seconds - now, 0))
            for file, _ in self._poll.poll(1000 * wait + 1):
                if file == self._bell:
                    with self._lock:
                        self._awake = False
                        os.read(self._bell, 1)
                else:
                    self._read()
        return self._lines.popleft() if self._lines else None

    def _read(self) -> None:
        piece = os.read(self._out.fileno(), PIECE)
        if not piece or len(self._rest) > LONGEST_ANSWER:
            before = "its worker process ended" if self.ready else "a worker ended before it was ready"
            raise _Ended(_lost(self._cause or before + self._last_words()))
        self._rest += piece
        if b"\n" in piece:
            *lines, self._rest = self._rest.split(b"\n")
            self._lines.extend(map(bytes, lines))

    def _look(self, now: float, seconds: float) -> None:
        """Ends the process if it takes too long for the oldest call, the only one that it is busy with, or to start."""
        if now - self._since > seconds and not self.ready:
            raise _Ended(lambda name: EnvPoolError(f"a worker was not ready within {seconds:g} s"))
        if now - self._since > seconds:
            hung = self._sent.popleft()
            self.ended = True  # before anybody hears of it
            limit = round(seconds, 1 if seconds > 1 else 2)
            hung.future.set_exception(EnvironmentFailed(hung.name, f"the environment took more than {limit:g} s"))
            raise _Ended(_lost("its worker process hung in another call and was ended"))
        if self._most_memory is not None and self.ready and now - self._looked > LOOK_SECONDS:
            self._looked = now
            held = resident_memory([self.pid]).get(self.pid, 0) - self._base
            count = max(self.sessions, 1)
            if held > self._most_memory * count:
                shown = f"{count} session{'' if count == 1 else 's'} of {self._most_memory:,} MB"
                cause = f"its worker process held {held:,} MB, which is more than {shown} (most_memory)"
                raise _Ended(lambda name: EnvironmentFailed(name, cause))  # played again, it would grow again

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LAST_WORDS))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""

    def _end(self, make: Callable[[str], EnvPoolError]) -> None:
        """Kills the process and all that it started, and tells everyone who waits why."""
        with self._lock:
            self.ended, self._why = True, make
        self.kill("its worker process ended")
        for asked in (*self._sent, *self._new):
            asked.future.set_exception(make(asked.name))
        self._process.wait()
        for file in (self._in, self._out, self._log):
            if file is not None:
                file.close()
        os.close(self._bell)
        os.close(self._ring)
        self.gone.set_result(None)


def _lost(cause: str) -> Callable[[str], EnvPoolError]:
    return lambda name: SessionLost(name, cause)


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
