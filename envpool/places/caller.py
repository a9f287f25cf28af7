"""Requests to one server: repeated where that is safe, and not sent to a server that does not answer."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from envpool.errors import EnvironmentFailed, ServerRefused, ServerUnreachable, SessionLost
from envpool.places.echo import Echo
from envpool.places.endpoint import Answer, Breaker, Exchange, HttpSettings
from envpool.session import note_failure
from envpool.statistics import Recorder

_NOT_TAKEN = (429, 503)
"""The request was not carried out, so any may be repeated."""

OVERLOADED = 5
"""So many times longer than with one that fails do we keep asking a server that says that it is busy."""

BROKEN = 3
"""So often do we repeat a request that an original server answered with status 500."""

HOPELESS = 3
"""Unanswered calls in a row to a server that is left alone, after which no call waits for it."""

_KEY = "Idempotency-Key"


class Caller:
    """Sends requests to one server.

    Args:
        wire: the connections to it.
        base: path in front of every route.
        settings: time limits and retries.
        recorder: where retries and failures are counted.

    Attributes:
        honours_keys: whether the server carries out only once what has the same key.
        failure: why the last request was not answered; None if it was.
    """

    def __init__(self, wire: Exchange, base: str, settings: HttpSettings, recorder: Recorder | None) -> None:
        self.honours_keys = False
        self.failure: EnvironmentFailed | None = None
        self._wire = wire
        self._base = base
        self._settings = settings
        self._recorder = recorder
        self._breaker = Breaker(wire.address)
        self._echo = Echo()
        self._lost = 0
        self._random = random.Random()  # of pauses only

    @property
    def address(self) -> str:
        """How errors name the server."""
        return self._wire.address

    @property
    def well(self) -> bool:
        """Whether it answers."""
        return not self._breaker.open

    @property
    def hopeless(self) -> bool:
        """Whether no call waits for it any more: one that comes when the breaker lets nothing through fails at once."""
        return self._breaker.open and self._lost >= HOPELESS

    async def call(
        self,
        route: str,
        body: Mapping[str, Any] | None,
        *,
        method: str = "POST",
        key: str | None = None,
        session: int | str | None = None,
        repeat: bool,
        patient: bool = True,
    ) -> Any:
        """Sends a request until it is answered, and returns the answer.

        Args:
            route: as in ``/step``.
            body: JSON; None for none.
            method: ``GET`` or ``POST``.
            key: names the request, for servers that then carry it out once only.
            session: which session the request is for, if any.
            repeat: whether it may be repeated although it may have been carried out.
            patient: wait for a server that is down.

        Raises:
            ServerUnreachable: there was no readable answer.
            ServerRefused: the answer was an error.
            SessionLost: the server does not know the session.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {_KEY: key} if key and self.honours_keys else {}
        repeat = repeat or bool(headers)
        answered = False
        try:
            for attempt in itertools.count():
                willing = patient and not self.hopeless
                try:
                    answer = await self._exchange(method, self._base + route, content, headers, session, willing)
                    answered, self._lost = True, 0
                    note_failure(None)
                    return self._read(route, answer)
                except _Again as again:
                    wanted = again
                except ServerUnreachable as failure:
                    wanted = _Again(failure, self._settings.retries, safe=not failure.acted)
                if not (repeat or wanted.safe) or attempt >= wanted.limit or not (willing or self.well):
                    raise wanted.failure
                note_failure(wanted.failure)
                if self._recorder:
                    self._recorder.retries += 1
                    self._recorder.failed(wanted.failure)
                longest = min(self._settings.backoff_seconds * 2**attempt, self._settings.backoff_limit)
                await trio.sleep(max(wanted.pause, longest * self._random.uniform(0.5, 1.0)))
        finally:
            self._lost += patient and not answered
        raise AssertionError("the loop ends by return or raise")

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._wire.aclose()

    async def _exchange(
        self,
        method: str,
        route: str,
        content: bytes | None,
        headers: Mapping[str, str],
        session: int | str | None,
        patient: bool,
    ) -> Answer:
        await self._breaker.admit(patient=patient)
        name = self._echo.name()
        try:
            answer = await self._wire.exchange(
                method, route, content, {**headers, **name}, lambda answer: self._echo.doubt(answer, name, session)
            )
        except ServerUnreachable as failure:
            self.failure = failure
            if failure.heard:  # it is there, whatever makes a mess of its answers
                self._breaker.succeeded()
            else:
                self._breaker.failed(failure.cause)
            raise
        except BaseException:
            self._breaker.unknown()
            raise
        self._breaker.succeeded()
        self.failure = None
        return answer

    def _read(self, route: str, answer: Answer) -> Any:
        address, status = self._wire.address, answer.status
        if status in _NOT_TAKEN:
            overloaded = ServerUnreachable(route, f"{address} answered {status}: it is overloaded", acted=False)
            pause = _seconds(answer.retry_after)
            raise _Again(overloaded, OVERLOADED * self._settings.retries, safe=True, pause=pause)
        if status >= 500:
            said = _excerpt(answer.content) or "without a word"
            refused = ServerRefused(route, f"{address} answered {status}: {said} (its log may tell why)")
            # an original server answers so to a request that it cannot carry out, again and again
            raise _Again(refused, limit=self._settings.retries if self.honours_keys else BROKEN)
        if status in (401, 403):
            raise ServerRefused(route, f"{address} answered {status}: give the endpoint its `token`", final=True)
        if status != 200:
            raise ServerRefused(route, f"{address} answered {status}: {_excerpt(answer.content)}", final=True)
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            text = f"{address} answered with something that is no JSON: {_excerpt(answer.content)}"
            raise ServerUnreachable(route, text) from None
        if isinstance(found, dict) and "error" in found and "kind" in found:  # a server of ours says what is wrong
            if found["kind"] == "unknown_session":
                raise SessionLost(route, f"{address} no longer knows the session")
            raise ServerRefused(route, f"{address}: {_excerpt(str(found['error']).encode())}", final=True)
        return found


@dataclass
class _Again(Exception):
    """A request that may be worth repeating.

    Attributes:
        failure: what to raise otherwise.
        limit: how often to repeat it.
        safe: whether it was certainly not carried out.
        pause: seconds that the server asks to wait.
    """

    failure: EnvironmentFailed
    limit: int
    safe: bool = False
    pause: float = 0.0


def _seconds(retry_after: str | None) -> float:
    return min(float(retry_after), 30.0) if retry_after and retry_after.isdecimal() else 0.0


def _excerpt(content: bytes) -> str:
    text = " ".join(content[:200].decode(errors="replace").split())
    return text if len(text) <= 100 else f"{text[:97]}..."
