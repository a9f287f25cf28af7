"""A policy that plays what it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from envpool.errors import PolicyFailed
from envpool.formats import ActionFormat
from envpool.policy import Actor, Episode, Load
from envpool.types import Completion


class ScriptedPolicy:
    """Plays given actions in their order, written in the format of the episode.

    Args:
        actions: what every episode plays, or a mapping from item id (as in ``textcraft_31``) to that.
        name: how trajectories name the policy.
    """

    def __init__(self, actions: Sequence[str] | Mapping[str, Sequence[str]], name: str = "scripted") -> None:
        if isinstance(actions, str):
            raise TypeError(f"expected a sequence of actions, got the text {actions!r}")
        self._actions = actions
        self.name = name

    def running(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Nothing to start."""
        return nullcontext()

    @asynccontextmanager
    async def actor(self, episode: Episode) -> AsyncIterator[Actor]:
        """Opens an actor at the start of the script.

        Raises:
            PolicyFailed: there is no script for the task.
        """
        actions = self._actions
        if isinstance(actions, Mapping):
            if episode.task.item_id not in actions:
                raise PolicyFailed("actor", f"there is no script for {episode.task.item_id}")
            actions = actions[episode.task.item_id]
        yield _ScriptedActor(iter(actions), episode.format)


class _ScriptedActor:
    def __init__(self, actions: Iterator[str], format: ActionFormat) -> None:
        self._actions = actions
        self._format = format

    async def act(self, observation: str) -> Completion:
        action = next(self._actions, None)
        if action is None:
            raise PolicyFailed("act", "the script holds no further action")
        return Completion(self._format.render("I follow the script.", action))
