"""The event loop of trio, as the places need it."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import trio

from envpool.session import current_call, queueing
from envpool.statistics import Recorder

T = TypeVar("T")


class TrioLoop:
    """Waits for the futures of places in the run of trio that it was made in.

    Args:
        recorder: where abandoned sessions are counted.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self.pause = trio.lowlevel.checkpoint  # itself: a coroutine around it costs as much

    @property
    def seconds(self) -> float:
        """How long the call that this task is in may still take."""
        call = current_call.get()
        return math.inf if call is None else call.limit.deadline - trio.current_time()

    async def wait(self, future: Future[T], *, queues: bool) -> T:
        """Waits for a future and returns what it holds; time in a queue does not count as the call's."""
        if queues:
            with queueing():
                await _held(future)
        else:
            await _held(future)
        return future.result()

    async def settle(self, future: Future[Any], seconds: float) -> bool:
        """Waits `seconds` at most; returns whether the future holds anything then."""
        with trio.move_on_after(seconds):
            await _held(future)
        return future.done()

    def abandoned(self) -> None:
        """Counts a session that is left alone in a call that has not ended."""
        if self._recorder is not None:
            self._recorder.abandoned += 1


async def _held(future: Future[Any]) -> None:
    """Returns when a future holds something, which it may be given in any thread."""
    if future.done():
        await trio.lowlevel.checkpoint()
        return
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
    here, waits = threading.get_ident(), False

    def wake() -> None:
        nonlocal waits
        if waits:
            waits = False
            trio.lowlevel.reschedule(task)

    def notice(future: Future[Any]) -> None:
        if waits and threading.get_ident() == here:
            wake()
        else:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(wake)

    def give_up(raise_cancel: object) -> trio.lowlevel.Abort:
        nonlocal waits
        waits = False
        return trio.lowlevel.Abort.SUCCEEDED

    future.add_done_callback(notice)
    waits = True
    await trio.lowlevel.wait_task_rescheduled(give_up)
