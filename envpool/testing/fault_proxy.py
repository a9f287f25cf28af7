"""A proxy in front of a server that lets go wrong what goes wrong in networks, by a seed."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping

import trio

from envpool.errors import EnvPoolError
from envpool.testing.faults import Fault, Mixup
from envpool.testing.http1 import Client, Connection, Request, Response
from envpool.testing.loopback import LoopbackServer

GARBAGE = b'{"observation": "You see \xff\xfe'
"""An answer that is neither JSON nor text."""


_REFUSALS = {
    Fault.INTERNAL: Response.text("Internal Server Error", 500),
    Fault.UNAVAILABLE: Response.text("Service Unavailable", 503),
}


class FaultProxy(LoopbackServer):
    """Passes requests on to a server, and spoils some of them.

    Use it as ``async with FaultProxy(server.url, {Fault.DROP: 0.05}, seed=1) as proxy:`` and speak to `proxy.url`.
    Which requests are spoiled depends on the seed and the order in which they come, on nothing else.

    Args:
        target: where the server is, as in ``http://127.0.0.1:8000``.
        chances: the probability of each fault; None for none.
        seed: another seed spoils other requests.
        routes: ends of the paths that may be spoiled, as in ``["/step"]``; None for all.
        delay: seconds that a delayed request waits, and an answer for another one to be exchanged with.
        down: seconds that a killed server stays down; None to leave it down until `revive`.
        latency: gives the seconds that each request takes before it is passed on; None for no time.

    Attributes:
        requests: how many requests came in, by path (as in ``/step``).
        faults: what was done, counted.
        upcoming: what is done to the next requests (None: nothing), before chance decides again.

    Raises:
        EnvPoolError: the chances are no probabilities.
    """

    def __init__(
        self,
        target: str,
        chances: Mapping[Fault, float] | None = None,
        *,
        seed: int = 0,
        routes: Collection[str] | None = None,
        delay: float = 0.05,
        down: float | None = 0.1,
        latency: Callable[[], float] | None = None,
    ) -> None:
        given = chances or {}
        self._chances = {fault: given[fault] for fault in Fault if fault in given}  # in one order, whatever was given
        if min(self._chances.values(), default=0) < 0 or sum(self._chances.values()) > 1:
            raise EnvPoolError(f"the chances of faults must add up to at most 1: {dict(given)}")
        self.faults: Counter[Fault] = Counter()
        self.requests: Counter[str] = Counter()
        self.upcoming: deque[Fault | None] = deque()
        self._target = target
        self._random = random.Random(seed)
        self._routes = None if routes is None else tuple(routes)
        self._mixup = Mixup(self._random, delay)
        self._delay, self._down_seconds = delay, down
        self._latency = latency

    async def converse(self, connection: Connection) -> None:
        """Passes on one request after the other."""
        async with Client(self._target) as target:
            going_on = True
            while going_on and (request := await connection.receive_request()) is not None:
                self.requests[request.path] += 1
                fault = self._choose(request)
                if fault is not None:
                    self.faults[fault] += 1
                going_on = await self._treat(fault, request, connection, target)

    async def pass_on(self, request: Request, target: Client) -> Response:
        """Has the server answer."""
        return await target.send(request)

    def _choose(self, request: Request) -> Fault | None:
        if self._routes is not None and not request.path.endswith(self._routes):
            return None
        if self.upcoming:
            return self.upcoming.popleft()
        draw = self._random.random()
        for fault, chance in self._chances.items():
            draw -= chance
            if draw < 0:
                return fault
        return None

    async def _treat(self, fault: Fault | None, request: Request, connection: Connection, target: Client) -> bool:
        """Answers a request or does not; returns whether the connection goes on."""
        if fault == Fault.KILL:
            self._nursery.start_soon(self._outage)
            await trio.sleep_forever()  # until the outage closes this connection as well
        if fault in _REFUSALS:
            await connection.send_response(_REFUSALS[fault])
            return True
        if fault == Fault.DELAY:
            await trio.sleep(self._delay)
        if self._latency is not None:
            await trio.sleep(self._latency())
        response = await self.pass_on(request, target)
        match fault:
            case Fault.DROP:
                return False
            case Fault.HANG:
                await connection.wait_hangup()
                return False
            case Fault.TRUNCATE:
                await connection.send_half(response)
                return False
            case Fault.RESET:
                await connection.send_half(response)
                connection.abort()
                return False
            case Fault.GARBAGE:
                response = Response(200, GARBAGE, ((b"content-type", b"application/json"),))
        response, times = await self._mixup.treat(fault, request, response)
        await connection.send_response(response, times)
        return True

    async def _outage(self) -> None:
        await self.kill()
        if self._down_seconds is not None:
            await trio.sleep(self._down_seconds)
            self.revive()
