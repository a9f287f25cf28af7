"""What a server answers when it cannot do as asked, and what it remembers of its answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

KEPT_ANSWERS = 4
"""How many answers of a session are kept for requests that are repeated."""

SESSION_BYTES = 2**16
"""Bytes of the answers that are kept for one session, at most."""

SERVER_BYTES = 2**23
"""Bytes of the answers that are kept for all sessions, at most."""


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
    TOO_LARGE = "too_large"  # a body or an action beyond the limit
    NOT_JSON = "not_json"  # a body that says it is something else
    KEY_REUSED = "key_reused"  # its idempotency key was another request's
    NOT_KEPT = "not_kept"  # it was carried out before, and the answer is not kept any more
    WRONG_HOST = "wrong_host"  # it is for a host of another name
    FOREIGN_PAGE = "foreign_page"  # a page of another origin sent it
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


def key_reused() -> Refused:
    """Refuses a request whose key was another's."""
    return Refused(Kind.KEY_REUSED, "the Idempotency-Key belongs to another request: each needs a key of its own")


class Answer(NamedTuple):
    """One answer as it is sent: HTTP status and JSON."""

    status: int
    body: bytes


@dataclass(slots=True, eq=False)
class _Kept:
    """What is known of a request that carried a key; without answer and future if the answer was too much to keep."""

    request: bytes
    future: asyncio.Future[Answer] | None
    answer: Answer | None = None


@dataclass(slots=True)
class Shelf:
    """The answers that a server keeps, within a number of bytes: the oldest are dropped for the newest.

    Attributes:
        most: bytes of all answers together.
        held: bytes that there are now.
    """

    most: int = SERVER_BYTES
    held: int = 0
    _kept: dict[_Kept, None] = field(default_factory=dict)

    def put(self, kept: _Kept, answer: Answer) -> None:
        """Keeps an answer."""
        kept.answer = answer
        self._kept[kept] = None
        self.held += len(answer.body)
        while self.held > self.most:
            self.drop(next(iter(self._kept)))

    def drop(self, kept: _Kept) -> None:
        """Drops an answer, if it is kept."""
        if kept.answer is not None:
            self.held -= len(kept.answer.body)
            kept.answer = None
            del self._kept[kept]


class Answers:
    """The answers to the latest requests that carried a key, those still being worked out included.

    A request is told by its key; the same key with another request is refused. So is a repeated request whose answer
    is not kept any more: carrying it out again is what the key was to prevent.

    Args:
        shelf: where they are kept.
        size: how many requests are remembered.
        most: bytes of their answers, at most; None for what the shelf takes.
    """

    def __init__(self, shelf: Shelf, size: int, most: int | None = None) -> None:
        self._shelf = shelf
        self._size = size
        self._most = most
        self._kept: dict[bytes, _Kept] = {}

    def __contains__(self, key: str) -> bool:
        return _digest(key) in self._kept

    async def once(self, key: str, request: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Does the work, unless it was done or is being done under the same key: then the answer is the same.

        Args:
            key: what the client calls the request.
            request: what it asks for; a repeated request asks for the same.
            work: carries it out.

        Raises:
            Refused: the key was another request's, or the answer is not kept any more.
        """
        name, asked = _digest(key), _digest(request)
        if (earlier := self._kept.get(name)) is not None:
            return await _repeated(earlier, asked)
        future = asyncio.get_running_loop().create_future()
        kept = self._kept[name] = _Kept(asked, future)
        self._trim()
        try:
            answer = await work()
        except BaseException:
            self._kept.pop(name, None)
            future.cancel()
            raise
        future.set_result(answer)
        kept.future = None
        if answer.status != 200:  # "not now" is no answer to keep
            self._kept.pop(name, None)
        elif self._kept.get(name) is kept:  # the session may have ended meanwhile
            self._keep(kept, answer)
        return answer

    def clear(self) -> None:
        """Forgets everything."""
        for kept in self._kept.values():
            self._shelf.drop(kept)
        self._kept.clear()

    def _trim(self) -> None:
        while len(self._kept) > self._size:
            oldest = next(iter(self._kept))
            if self._kept[oldest].future is not None:
                return
            self._shelf.drop(self._kept.pop(oldest))

    def _keep(self, kept: _Kept, answer: Answer) -> None:
        if self._most is not None:
            left = self._most - len(answer.body)
            if left < 0:  # too much by itself: it must not cost the others
                return
            for other in reversed(self._kept.values()):  # the latest are most likely asked for
                left -= len(other.answer.body) if other.answer else 0
                if left < 0:
                    self._shelf.drop(other)
        self._shelf.put(kept, answer)


async def _repeated(earlier: _Kept, asked: bytes) -> Answer:
    if earlier.request != asked:
        raise key_reused()
    if earlier.future is not None:
        return await asyncio.shield(earlier.future)
    if earlier.answer is None:
        raise Refused(Kind.NOT_KEPT, "the request was carried out before, and its answer is not kept any more")
    return earlier.answer


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
