"""The conformance kit: does an environment, here or behind a server, keep what the pool builds upon?"""

from __future__ import annotations

import argparse
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from envpool.errors import EnvPoolError
from envpool.guard import in_one_line
from envpool.imports import add_import_option, import_named
from envpool.places.local import LocalTransport
from envpool.registry import get_spec, spec_by_words
from envpool.run import run_sync
from envpool.session import Call, Transport, current_call
from envpool.spec import EnvSpec, Place
from envpool.testing.checks import CHECKS, raised_itself
from envpool.testing.http1 import Client, Lost
from envpool.testing.report import Check, Report, Verdict, format_report
from envpool.testing.subject import Failed, Skipped, Subject

STEPS = 12
"""How many actions a walk takes, at most."""

SESSIONS = 16
"""How many sessions are opened at once, unless the server holds fewer."""

SECONDS = 120.0
"""Time limit of one check."""

OPENING_SECONDS = 60.0
"""How long the first session may take to open, if the checks have as much time."""


async def check(
    target: EnvSpec | str,
    *,
    dialect: EnvSpec | str | None = None,
    token: str | None = None,
    transport: Transport | None = None,
    tasks: int = 3,
    seed: int = 0,
    seconds: float = SECONDS,
) -> Report:
    """Checks an environment.

    Args:
        target: its card, its name, or the address of a server (as in ``http://127.0.0.1:36001``).
        dialect: which environment the server serves, its name or its card; needed with an address.
        token: the environment variable that holds the bearer token of the server.
        transport: where sessions come from, not entered yet; with None they live on this machine, or on the server.
        tasks: how many tasks each check plays.
        seed: of tasks and actions.
        seconds: time limit of each check.

    Returns:
        What was found. An environment that fails is no error.

    Raises:
        EnvPoolError: there is nothing to check: no such environment, a missing extra, no dialect, a server that
            cannot be reached.
    """
    if tasks < 1:
        raise EnvPoolError(f"--tasks {tasks} checks nothing: it must be positive")
    if not 0 < seconds < math.inf:
        raise EnvPoolError(f"--seconds {seconds:g} is no time limit: it must be positive")
    if isinstance(target, str) and "://" in target:
        subject = _served(target, dialect, token, transport, tasks, seed)
        name = f"{subject.spec.name} at {target}"
    else:
        spec = get_spec(target) if isinstance(target, str) else target
        transport = transport or LocalTransport()
        subject = Subject(spec=spec, transport=transport, count=tasks, steps=STEPS, sessions=SESSIONS, seed=seed)
        name = f"{spec.name} ({transport.place_of(spec)})" if isinstance(transport, LocalTransport) else spec.name
    async with subject.transport.running():
        failure = await _opening(subject, min(seconds, OPENING_SECONDS))
        if failure is None:
            found = [await _made(check, CHECKS[check], subject, seconds) for check in CHECKS]
        else:
            found = [Check("open", Verdict.FAILED, _line(in_one_line(failure)))]
    if isinstance(failure, EnvPoolError) and not raised_itself(failure):
        raise failure  # what cannot be opened for a known reason is the caller's to mend, and no finding
    return Report(name, tuple(found))


def check_env(
    target: EnvSpec | str,
    *,
    dialect: EnvSpec | str | None = None,
    token: str | None = None,
    transport: Transport | None = None,
    tasks: int = 3,
    seed: int = 0,
    seconds: float = SECONDS,
) -> Report:
    """Checks an environment, from plain code; see `check`."""
    return run_sync(
        partial(
            check,
            dialect=dialect,
            token=token,
            transport=transport,
            tasks=tasks,
            seed=seed,
            seconds=seconds,
        ),
        target,
    )


def add_check_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command ``check`` to a command line; its ``run`` prints the report and returns 1 if a check failed."""
    parser = commands.add_parser("check", help="check that an environment or a server keeps its promises")
    parser.add_argument("target", metavar="ENV_OR_URL", help="a name, or an address as in http://127.0.0.1:36001")
    parser.add_argument("options", nargs="*", metavar="name=value", help="options of the environment")
    parser.add_argument("--dialect", metavar="NAME", help="which environment a server serves")
    parser.add_argument("--token", metavar="VARIABLE", help="environment variable that holds a server's bearer token")
    parser.add_argument(
        "--place",
        choices=[str(place) for place in Place],
        help="where sessions live (default: as the environment says)",
    )
    add_import_option(parser)
    parser.add_argument("--tasks", type=int, default=3, help="tasks per check (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of tasks and actions (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"time limit of each check (default: {SECONDS:g})"
    )
    parser.set_defaults(run=_run)


def _run(words: argparse.Namespace) -> int:
    imports = import_named(words.imports)
    if words.place is not None and "://" in words.target:
        raise EnvPoolError(f"--place {words.place} is for environments of this machine: leave it out for a server")
    target, dialect = words.target, words.dialect
    if words.options and "://" not in target:
        target = spec_by_words(target, words.options)
    elif words.options and dialect is not None:
        dialect = spec_by_words(dialect, words.options)
    report = check_env(
        target,
        dialect=dialect,
        token=words.token,
        transport=None if words.place is None else LocalTransport(words.place, imports=imports),
        tasks=words.tasks,
        seed=words.seed,
        seconds=words.seconds,
    )
    print(format_report(report))
    return 0 if report.passed else 1


def _served(
    url: str, dialect: EnvSpec | str | None, token: str | None, transport: Transport | None, tasks: int, seed: int
) -> Subject:
    if dialect is None:
        raise EnvPoolError(f"say with --dialect which environment {url} serves")
    from envpool.places.endpoint import Endpoint
    from envpool.places.http import HttpTransport  # which checks in process do without

    spec, endpoint = get_spec(dialect) if isinstance(dialect, str) else dialect, Endpoint(url, token)
    shape = spec.dialect
    return Subject(
        spec=spec,
        transport=transport or HttpTransport({spec.name: [endpoint]}),
        count=tasks,
        steps=STEPS,
        sessions=min(SESSIONS, shape.sessions or SESSIONS),
        seed=seed,
        known=shape.tasks,
        count_live=partial(_live_sessions, url, endpoint.secrets()),
    )


async def _live_sessions(url: str, headers: Mapping[str, str]) -> int | None:
    """Asks a server of envpool's own how many sessions it holds; others do not know."""
    if not url.startswith("http://"):
        return None
    try:
        async with Client(url) as client:
            answer = await client.request("GET", "/info", headers=headers)
        known = answer.json() if answer.status == 200 else None
    except (Lost, ValueError):
        return None
    return known.get("sessions") if isinstance(known, dict) else None


async def _opening(subject: Subject, seconds: float) -> Exception | None:
    try:
        with trio.move_on_after(seconds), trio.CancelScope() as limit:
            current_call.set(call := Call(limit))
            async with subject.session():
                return None
    except Exception as error:
        return error
    why = "does anything answer, and is it well?" if call.failure is None else call.failure.cause
    return EnvPoolError(f"no session could be opened within {seconds:g} s: {why}")


async def _made(name: str, function: Callable[[Subject], Awaitable[str]], subject: Subject, seconds: float) -> Check:
    """Makes one check. Whatever it raises is a finding about the environment."""
    seen, verdict, failure = f"took more than {seconds:g} s", Verdict.FAILED, None
    try:
        with trio.move_on_after(seconds), trio.CancelScope() as limit:
            current_call.set(call := Call(limit))
            seen, verdict = await function(subject), Verdict.PASSED
        failure = call.failure if verdict == Verdict.FAILED else None
    except (Skipped, Failed) as found:
        seen, verdict = str(found), Verdict.SKIPPED if isinstance(found, Skipped) else Verdict.FAILED
    except Exception as error:
        seen, verdict = in_one_line(error), Verdict.FAILED
    if failure is not None:
        seen = f"{seen}: {failure.cause}"
    return Check(name, verdict, _line(seen))


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."
