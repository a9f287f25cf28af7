"""One worker process of a server: environments behind a pipe, in one thread.

The server (`workers`) writes one JSON list per line to the standard input, ``[call, number of the environment,
argument]``, and reads one JSON dict per line, in the same order, from the standard output. A worker ends when its input
does, whatever became of the server.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from envpool.errors import EnvironmentFailed, EnvPoolError, UnknownTask
from envpool.guard import in_one_line
from envpool.imports import import_modules
from envpool.registry import get_spec
from envpool.server.hosting import build, perform, try_out
from envpool.spec import Environment, EnvSpec
from envpool.types import Step


def main(grace_seconds: float, environment: str, imports: Sequence[str]) -> None:
    """Does what the server says until there is no more.

    Args:
        grace_seconds: how long it may take to close its environments.
        environment: the name of the environment.
        imports: modules to import first.
    """
    requests, say = _take_pipes()
    ended = threading.Event()
    threading.Thread(target=_follow_server, args=(requests, ended, grace_seconds), daemon=True).start()
    try:
        import_modules(imports)
        spec = get_spec(environment)
        try_out(spec)
    except Exception as error:
        say({"error": str(error) if isinstance(error, EnvPoolError) else in_one_line(error)})
        return
    say({"error": None})
    worlds: dict[int, Environment] = {}
    for line in requests:
        say(_carry_out(spec, worlds, *json.loads(line)))
    for world in worlds.values():
        try:
            perform(world, "close")
        except EnvironmentFailed as failure:
            print(f"envpool: {failure}", file=sys.stderr)
    ended.set()


def _carry_out(
    spec: EnvSpec, worlds: dict[int, Environment], call: str, number: int, *arguments: int | str
) -> dict[str, Any]:
    try:
        if call == "open":
            worlds[number] = build(spec)
            return {"value": None}
        world = worlds.pop(number) if call == "close" else worlds[number]
        return {"value": _plain(perform(world, call, *arguments))}
    except UnknownTask as error:
        return {"task": str(error)}
    except EnvironmentFailed as failure:
        return {"error": failure.cause}


def _plain(value: Any) -> Any:
    if isinstance(value, Step):
        return [value.observation, value.score, value.done]
    return value if value is None or isinstance(value, str) else list(value)


def _take_pipes() -> tuple[IO[bytes], Callable[[dict[str, Any]], None]]:
    """Keeps standard input and output for the server: what an environment prints goes to the standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the server is gone; the input says so as well
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()

    return requests, say


def _follow_server(requests: IO[bytes], ended: threading.Event, grace_seconds: float) -> None:
    """Ends this process and all that it started some time after the server, also from within a call that hangs."""
    hangup = select.poll()
    hangup.register(requests.fileno(), 0)  # hanging up is always reported
    hangup.poll()
    if not ended.wait(grace_seconds):
        if os.getpid() == os.getpgrp():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3:])
