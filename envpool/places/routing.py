"""Each environment where it belongs: some behind servers, some in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from envpool.session import Session, Transport
from envpool.spec import EnvSpec
from envpool.statistics import Recorder


class RoutingTransport:
    """Opens sessions with the transport of their environment.

    Args:
        routes: transports by the name of the environment.
        otherwise: the transport of all others.
    """

    def __init__(self, routes: Mapping[str, Transport], otherwise: Transport) -> None:
        self._routes = dict(routes)
        self._otherwise = otherwise

    @asynccontextmanager
    async def running(self, recorder: Recorder | None = None) -> AsyncIterator[None]:
        """Keeps all of them."""
        async with AsyncExitStack() as stack:
            for transport in dict.fromkeys([*self._routes.values(), self._otherwise]):
                await stack.enter_async_context(transport.running(recorder))
            yield

    async def open(self, spec: EnvSpec) -> Session:
        """Opens one session.

        Raises:
            EnvironmentFailed: it could not be opened.
        """
        return await self._routes.get(spec.name, self._otherwise).open(spec)
