"""A session that is being created on a server."""

from __future__ import annotations

import trio

from envpool.errors import EnvironmentFailed

FINISH_SECONDS = 5.0
"""How long the end of a run may take on one server."""


class Creation:
    """A session that is being created."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope(shield=True)
        self.done = trio.Event()
        self.identity: int | str | None = None
        self.failure: EnvironmentFailed | None = None
        self.abandoned = False

    def give_up(self) -> None:
        """Nobody waits any more: what is created is closed, if that happens soon."""
        self.abandoned = True
        self.scope.deadline = trio.current_time() + FINISH_SECONDS
