"""What may go wrong between a client and a server, and answers that come twice or go to the wrong request."""

from __future__ import annotations

import random
from collections import deque
from enum import StrEnum

import trio

from envpool.testing.http1 import Request, Response

RECENT_ANSWERS = 50
"""How many earlier answers a stale one is chosen from."""


class Fault(StrEnum):
    """What may be done to a request."""

    DROP = "drop"  # carried out, the answer swallowed, the connection closed
    DELAY = "delay"  # passed on late
    TRUNCATE = "truncate"  # carried out, half of the answer, then the end of the connection
    RESET = "reset"  # carried out, half of the answer, then a reset of the connection
    GARBAGE = "garbage"  # carried out, answered with status 200 and no JSON
    HANG = "hang"  # carried out, never answered
    INTERNAL = "internal"  # not passed on, answered with status 500
    UNAVAILABLE = "unavailable"  # not passed on, answered with status 503
    KILL = "kill"  # not passed on; the server dies
    DUP = "dup"  # carried out, the answer comes twice
    SWAP = "swap"  # carried out, two requests get each other's answers
    STALE = "stale"  # carried out, an earlier request's answer comes


class Mixup:
    """Decides what a request is answered with instead of its own answer.

    Args:
        rng: chooses which of the earlier answers comes.
        patience: seconds that an answer waits for another one to be exchanged with; then it goes where it belongs.
    """

    def __init__(self, rng: random.Random, patience: float) -> None:
        self._random = rng
        self._patience = patience
        self._recent: deque[tuple[str, Response]] = deque(maxlen=RECENT_ANSWERS)
        self._waiting: _Swap | None = None

    async def treat(self, fault: Fault | None, request: Request, response: Response) -> tuple[Response, int]:
        """Returns what to answer with, and how often.

        Args:
            fault: `Fault.DUP`, `Fault.SWAP` or `Fault.STALE`; what else there is changes nothing here.
            request: the request.
            response: its own answer.
        """
        earlier = [answer for path, answer in self._recent if path == request.path]
        self._recent.append((request.path, response))
        if fault == Fault.SWAP:
            return await self._swapped(response), 1
        if fault == Fault.STALE and earlier:
            return self._random.choice(earlier), 1
        return response, 2 if fault == Fault.DUP else 1

    async def _swapped(self, response: Response) -> Response:
        if (other := self._waiting) is not None:
            self._waiting = None
            other.theirs = response
            other.met.set()
            return other.mine
        swap = self._waiting = _Swap(response)
        try:
            with trio.move_on_after(self._patience):
                await swap.met.wait()
        finally:
            if self._waiting is swap:
                self._waiting = None
        return swap.theirs or response


class _Swap:
    """An answer that waits for another one."""

    def __init__(self, mine: Response) -> None:
        self.mine = mine
        self.theirs: Response | None = None
        self.met = trio.Event()
