"""Environments that are called in the thread of the event loop."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from envpool.places.hosts import Loop, done, failed
from envpool.places.live import Live
from envpool.spec import Environment, EnvSpec

_BUILT: Future[None] = done(None)


class Inline:
    """An environment whose calls are made at once; whoever is in a hurry takes `now`, which makes no future.

    Args:
        spec: its card.

    Raises:
        EnvPoolError: it could not be built.
    """

    queues = lost = False

    def __init__(self, spec: EnvSpec) -> None:
        self._live = Live(spec, None)
        self.built = _BUILT
        self.now, self.step_now = self._live.call, self._live.step

    @property
    def environment(self) -> Environment:
        """The environment itself."""
        return self._live.environment

    def call(self, name: str, *arguments: Any, seconds: float) -> Future[Any]:
        """Makes one call."""
        try:
            return done(self.now(name, *arguments))
        except BaseException as error:
            return failed(error)

    def close(self) -> Future[None]:
        """Frees the environment."""
        return self.call("close", seconds=0)


class InlineHost:
    """A place for environments whose calls return within milliseconds and cannot hang.

    Args:
        spec: their card.
    """

    workers = 1

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec

    def open(self, loop: Loop) -> Inline:
        """Builds an instance.

        Raises:
            EnvPoolError: it could not be built.
        """
        return Inline(self._spec)

    async def aclose(self, loop: Loop) -> None:
        """Nothing to free."""
