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
from envpool.calls import Toolbox
from envpool.datacommand import add_data_command
from envpool.imports import add_import_option, import_named
from envpool.registry import spec_by_words
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
    what = "which task (default: the first of split eval), and options of the environment"
    play.add_argument("options", nargs="*", metavar="INDEX | name=value", help=what)
    play.add_argument("--player", choices=["you", *PLAYERS], default="you", help="who plays (default: you)")
    play.set_defaults(run=lambda words: _play(words.environment, words.options, words.player))
    for command in (listing, play):
        add_import_option(command)
    add_data_command(commands)
    add_check_command(commands)
    add_serve_command(commands)
    words, rest = parser.parse_known_args(argv)
    if rest and not (hasattr(words, "options") and all("=" in word and not word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # options of an environment that stand behind those of the command
        words.options += rest
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
        for option in spec.declared.values():
            print(f"{'':12}{option}")


def _play(name: str, words: Sequence[str], player: str) -> None:
    numbers = [word for word in words if "=" not in word]
    if len(numbers) > 1 or not all(number.isdecimal() for number in numbers):
        raise EnvPoolError(
            f"{' '.join(numbers)!r} is not the number of a task: write it as 0, and options as name=value"
        )
    spec = spec_by_words(name, [word for word in words if "=" in word])
    task = Task(name, int(numbers[0]) if numbers else spec.tasks(Split.EVAL)[0])
    if player == "you":
        trajectory = _by_hand(task, spec)
    else:
        (trajectory,) = collect(EnvPool(specs=[spec]), [task], PLAYERS[player]())
        for message in trajectory.messages:
            print(f"[{message.role}]\n{message.text}\n")
    if trajectory.turns:
        print(f"[end]\n{trajectory.turns[-1].observation}\n")
    if trajectory.score is None:
        raise EnvPoolError(f"{task.item_id} could not be played to its end: {trajectory.error}")
    print(f"{task.item_id}: {trajectory.stop}, score {trajectory.score}, success {trajectory.success}")


def _by_hand(task: Task, spec: EnvSpec) -> Trajectory:
    forms = f"\n\nActions are written so:\n\n{Toolbox.of(spec).forms}" if spec.takes_calls else ""
    pool = EnvPool(specs=[spec], prompts={spec.name: spec.instructions + forms})
    rules = f"{task.item_id}: write one action a line, Ctrl-C leaves; at most {_turns(spec)}.\n"

    async def ask(conversation: Sequence[Message]) -> str:
        nonlocal rules
        if rules:  # not before it is known that there is such a task
            print(rules)
            rules = ""
        print(f"{conversation[-1].content}\n")
        return f"Action:\n{_typed()}"

    (trajectory,) = collect(pool, [task], ask)
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
