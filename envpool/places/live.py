"""An environment object and the calls to it, wherever it lives: guarded, checked, converted, awaited if need be."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from envpool.errors import EnvironmentFailed, EnvPoolError, MalformedAction, UnknownTask
from envpool.guard import call_here, in_one_line, read_actions, read_step, read_text
from envpool.places.actions import as_taken
from envpool.spec import Environment, EnvSpec
from envpool.types import Action, Call, Step

CALLS = ("reset", "step", "available_actions", "close")
"""The methods of an environment."""

_READ: Mapping[str, Callable[[object, str], Any]] = {
    "reset": read_text,
    "step": read_step,
    "available_actions": read_actions,
    "close": lambda returned, place: None,
}


class Live:
    """An environment and the calls to it. Not more than one call is made at a time, all of them in one thread.

    Args:
        spec: its card.
        runner: runs what an environment of asyncio awaits, in the thread that builds it; None if nothing may wait.

    Attributes:
        environment: the environment itself.

    Raises:
        EnvironmentFailed: it could not be built, or is one of asyncio and there is no `runner`.
        EnvPoolError: it needs something that is not here, and says so.
    """

    def __init__(self, spec: EnvSpec, runner: asyncio.Runner | None) -> None:
        self._spec = spec
        self._runner = runner
        self._score = spec.initial_score
        try:
            self.environment: Environment = call_here(self._finished, spec.build)
        except (EnvPoolError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise EnvironmentFailed("open", in_one_line(error)) from error
        if runner is None and _is_async(self.environment):
            raise EnvironmentFailed("open", f"{spec.name} has async methods: give it place=thread or place=process")

    def call(self, name: str, *arguments: Any) -> Any:
        """Makes one of `CALLS` and reads what it returns.

        Raises:
            UnknownTask: the environment has no such task.
            EnvironmentFailed: it raised or returned nonsense.
            KeyboardInterrupt: it raised that.
        """
        if name == "step" and (isinstance(arguments[0], Call) or self._spec.takes_calls):
            try:
                arguments = (as_taken(self._spec, arguments[0]),)
            except MalformedAction as malformed:
                return Step(str(malformed), self._score, False)
        try:
            method = getattr(self.environment, name)
            if self._runner is None:
                returned = call_here(method, *arguments)
            else:
                returned = call_here(self._finished, method, *arguments)
            found = _READ[name](returned, name)
        except (UnknownTask, EnvironmentFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise EnvironmentFailed(name, in_one_line(error)) from error
        if name == "reset":
            self._score = self._spec.initial_score
        elif name == "step":
            self._score = found.score
        return found

    def step(self, action: Action) -> Step:
        """Takes an action; for an action as text that nothing awaits it costs less than `call`, and is the same."""
        if self._runner is not None or self._spec.takes_calls or isinstance(action, Call):
            step: Step = self.call("step", action)
            return step
        try:
            found = read_step(call_here(self.environment.step, action), "step")
        except (UnknownTask, EnvironmentFailed, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise EnvironmentFailed("step", in_one_line(error)) from error
        self._score = found.score
        return found

    def _finished(self, function: Callable[..., Any], *arguments: Any) -> Any:
        returned = function(*arguments)
        if self._runner is not None and hasattr(type(returned), "__await__"):
            return self._runner.run(_awaited(returned))
        return returned


def _is_async(environment: object) -> bool:
    """Whether some call has to be awaited: one of its class, which is looked at once, or one of the object's own."""
    own = getattr(environment, "__dict__", {})
    kind: type = type(environment)
    return _has_coroutines(kind) or any(inspect.iscoroutinefunction(own[name]) for name in CALLS if name in own)


@lru_cache(maxsize=256)
def _has_coroutines(kind: type) -> bool:
    return any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in CALLS)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
