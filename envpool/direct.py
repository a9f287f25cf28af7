"""An environment called without a pool, in this thread, whatever its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from envpool.errors import EnvironmentFailed
from envpool.places.live import Live
from envpool.spec import EnvSpec


@contextmanager
def directly(spec: EnvSpec) -> Iterator[Live]:
    """Builds an environment here, asyncio ones too, and frees it at the end.

    Args:
        spec: its card.

    Raises:
        EnvPoolError: it cannot be built.
        EnvironmentFailed: a call failed; the text names the environment and the command that looks into it.
    """
    with asyncio.Runner() as runner:  # makes a loop only for an environment that needs one
        live = Live(spec, runner)
        try:
            try:
                yield live
            finally:
                live.call("close")
        except EnvironmentFailed as failed:
            cause = f"{failed.cause}: look with `envpool check {spec.name}`"
            raise EnvironmentFailed(f"{spec.name}: {failed.place}", cause) from failed
