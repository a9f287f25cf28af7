"""The command `envpool`: look at the environments, play them, check them, serve them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from envpool import (
    EnvPool,
    EnvPoolError,
    EnvSpec,
    ExpertPolicy,
    Message,
    RandomPolicy,
    Split,
    Task,
    Trajectory,
    collect,
    environments,
    get_spec,
)
from envpool.imports import add_import_option, import_named
from envpool.server import add_serve_command
from envpool.testing import add_check_command

PLAYERS = {"expert": ExpertPolicy, "random": RandomPolicy}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 2 after a mistake, which is told in one line, 1 if nobody reads."""
    parser = argparse.ArgumentParser(prog="envpool", description="Text environments, many at once.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the environments")
    listing.set_defaults(run=lambda words: _list())
    play = commands.add_parser("play", help="play one task and see the conversation")
    play.add_argument("environment")
    play.add_argument("index", type=int, nargs="?", help="which task (default: the first of split eval)")
    play.add_argument("--player", choices=["you", *PLAYERS], default="you", help="who plays (default: you)")
    play.set_defaults(run=lambda words: _play(words.environment, words.index, words.player))
    for command in (listing, play):
        add_import_option(command)
    add_check_command(commands)
    add_serve_command(commands)
    words = parser.parse_args(argv)
    try:
        words.imports = import_named(words.imports)
        code = words.run(words) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 1
    except EnvPoolError as error:
        print(f"envpool: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nenvpool: interrupted", file=sys.stderr)
        return 130


def _turns(spec: EnvSpec) -> str:
    return f"{spec.max_turns} turn" + ("" if spec.max_turns == 1 else "s")


def _list() -> None:
    for name in environments():
        spec = get_spec(name)
        counts = ", ".join(f"{len(spec.tasks(split)):,} {split}" for split in Split)
        where = "; behind a server" if spec.served else ""
        print(f"{name:12}{spec.summary} ({counts}; at most {_turns(spec)}{where})")


def _play(name: str, index: int | None, player: str) -> None:
    spec = get_spec(name)
    task = Task(name, spec.tasks(Split.EVAL)[0] if index is None else index)
    if player == "you":
        trajectory = _by_hand(task, spec)
    else:
        (trajectory,) = collect(EnvPool(), [task], PLAYERS[player]())
        for message in trajectory.messages:
            print(f"[{message.role}]\n{message.text}\n")
    if trajectory.turns:
        print(f"[end]\n{trajectory.turns[-1].observation}\n")
    if trajectory.score is None:
        raise EnvPoolError(f"{task.item_id} could not be played to its end: {trajectory.error}")
    print(f"{task.item_id}: {trajectory.stop}, score {trajectory.score}, success {trajectory.success}")


def _by_hand(task: Task, spec: EnvSpec) -> Trajectory:
    rules = f"{task.item_id}: write one action a line, Ctrl-C leaves; at most {_turns(spec)}.\n"

    async def ask(conversation: Sequence[Message]) -> str:
        nonlocal rules
        if rules:  # not before it is known that there is such a task
            print(rules)
            rules = ""
        print(f"{conversation[-1].content}\n")
        return f"Action:\n{_typed()}"

    (trajectory,) = collect(EnvPool(), [task], ask)
    return trajectory


def _typed() -> str:
    """Reads a line. Until it is there nothing else runs, so SIGTERM has to end the process at once."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return input("> ")
    except EOFError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
