"""What a server answers when it cannot do as asked, and what it remembers of its answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import NamedTuple

KEPT_ANSWERS = 4
"""How many answers of a session are kept for requests that are repeated."""


class Kind(StrEnum):
    """What is wrong with a request, as the server's clients are told."""

    UNKNOWN_SESSION = "unknown_session"  # never created, closed, or lost with its worker
    NOT_STARTED = "not_started"  # no reset yet, or none since the environment failed
    FINISHED = "finished"  # the episode is over
    UNKNOWN_TASK = "unknown_task"  # the environment has no such task
    ENVIRONMENT_FAILED = "environment_failed"  # it raised, hung or returned nonsense
    FULL = "full"  # no room for another session now
    UNAVAILABLE = "unavailable"  # a worker ended just now; its successor is on its way
    BAD_REQUEST = "bad_request"  # not JSON, or something is missing
    TOO_LARGE = "too_large"  # a body beyond the limit
    UNAUTHORIZED = "unauthorized"  # no token, or a wrong one


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        kind: what is wrong.
        text: the same in words.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Answer(NamedTuple):
    """One answer as it is sent: HTTP status and JSON."""

    status: int
    body: bytes


class Answers:
    """The answers to the latest requests that carried a key, those still being worked out included.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._futures: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()

    async def once(self, key: str | None, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Does the work, unless it was done or is being done under the same key: then the answer is the same."""
        if key is None:
            return await work()
        if (earlier := self._futures.get(key)) is not None:
            return await asyncio.shield(earlier)
        future = self._futures[key] = asyncio.get_running_loop().create_future()
        self._trim()
        try:
            answer = await work()
        except BaseException:
            self._futures.pop(key, None)
            future.cancel()
            raise
        future.set_result(answer)
        if answer.status != 200:  # "not now" is no answer to keep
            self._futures.pop(key, None)
        return answer

    def _trim(self) -> None:
        while len(self._futures) > self._size:
            oldest = next(iter(self._futures))
            if not self._futures[oldest].done():
                return
            del self._futures[oldest]
