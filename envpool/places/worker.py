"""One worker process: environments behind a pipe, in one thread.

Its parent (`process`) writes one JSON list per line to the standard input, ``[call, number of the environment,
argument]``, and reads one JSON dict per line, in the same order, from the standard output. A worker ends when its input
does, whatever became of its parent.
"""

from __future__ import annotations

import asyncio
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
from envpool.places.live import Live
from envpool.places.memory import resident_memory
from envpool.registry import get_spec
from envpool.spec import EnvSpec
from envpool.types import Call, Step


def main(grace_seconds: float, environment: str, version: str, options: str, imports: Sequence[str]) -> None:
    """Does what the parent says until there is no more.

    Args:
        grace_seconds: how long it may take to close its environments.
        environment: the name of the environment.
        version: the version that the parent knows; another one would mean other tasks.
        options: what it is configured with, as JSON.
        imports: modules to import first.
    """
    requests, say = _take_pipes()
    ended = threading.Event()
    threading.Thread(target=_follow_parent, args=(requests, ended, grace_seconds), daemon=True).start()
    try:
        import_modules(imports)
        spec = get_spec(environment, json.loads(options))
        if spec.version != version:
            raise EnvPoolError(
                f"{environment} is of version {spec.version} in its worker process, not {version}: "
                "its data has changed, start anew"
            )
        spec.prepare()
    except Exception as error:
        say({"error": str(error) if isinstance(error, EnvPoolError) else in_one_line(error)})
        return
    say({"error": None, "memory": sum(resident_memory([os.getpgrp()]).values())})
    live: dict[int, Live] = {}
    with asyncio.Runner() as runner:
        for line in requests:
            say(_carry_out(spec, live, runner, *json.loads(line)))
        for number in list(live):
            answer = _carry_out(spec, live, runner, "close", number)
            if "error" in answer:
                print(f"envpool: close: {answer['error']}", file=sys.stderr)
    ended.set()


def _carry_out(
    spec: EnvSpec, live: dict[int, Live], runner: asyncio.Runner, call: str, number: int, *arguments: Any
) -> dict[str, Any]:
    try:
        if call == "open":
            live[number] = Live(spec, runner)
            return {"value": None}
        if call == "close":
            closed = live.pop(number, None)  # None if it could not be built
            return {"value": closed and closed.call("close")}
        read = [Call(**argument) if isinstance(argument, dict) else argument for argument in arguments]
        found = live[number].call(call, *read)
        if isinstance(found, Step):
            found = [found.observation, found.score, found.done, dict(found.info)]
        return {"value": found}
    except UnknownTask as error:
        return {"task": str(error)}
    except EnvironmentFailed as failure:
        return {"error": failure.cause}
    except EnvPoolError as error:
        return {"missing": str(error)}
    except KeyboardInterrupt as error:  # the environment's own: Ctrl-C is for the parent
        return {"error": in_one_line(error)}


def _take_pipes() -> tuple[IO[bytes], Callable[[dict[str, Any]], None]]:
    """Keeps standard input and output for the parent: what an environment prints goes to the standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the parent is gone; the input says so as well
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()

    return requests, say


def _follow_parent(requests: IO[bytes], ended: threading.Event, grace_seconds: float) -> None:
    """Ends this process and all that it started some time after its parent, also from within a call that hangs."""
    hangup = select.poll()
    hangup.register(requests.fileno(), 0)  # hanging up is always reported
    hangup.poll()
    if not ended.wait(grace_seconds):
        if os.getpid() == os.getpgrp():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
