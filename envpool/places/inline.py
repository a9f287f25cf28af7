"""Environments that are called in the thread of the event loop."""

from __future__ import annotations

from typing import Any

from envpool.places.hosts import Loop
from envpool.places.live import Live
from envpool.spec import Environment, EnvSpec


class Inline:
    """An environment whose calls are made at once, and return what they give instead of a future.

    Args:
        spec: its card.

    Raises:
        EnvPoolError: it could not be built.
    """

    lost = False

    def __init__(self, spec: EnvSpec) -> None:
        self._live = Live(spec, None)
        self.call = self._live.call

    @property
    def environment(self) -> Environment:
        """The environment itself."""
        return self._live.environment

    def close(self) -> None:
        """Frees the environment."""
        self.call("close")


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

    def __repr__(self) -> str:
        return f"InlineHost({self._spec.name})"


__all__ = ["Any", "Inline", "InlineHost"]
