"""The commands. The only place that prints an error.

Whatever needs torch is imported by the command that needs it, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from agentgym.errors import AgentGymError
from envpool.errors import EnvPoolError, did_you_mean

UNREAD = 1
"""Exit code if whoever reads the output went away, as `head` does; rich has the same."""
USER_ERROR = 2
"""Exit code after a mistake of the user, or when the machine is out of something."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
_GO_ON = "interrupted: the same command goes on where it was"

_CURES = {
    errno.ENOSPC: "free some space and run the same command again: it goes on where it was",
    errno.EDQUOT: "free some space and run the same command again: it goes on where it was",
    errno.EACCES: "choose a folder that you may write to, as in output=FOLDER",
    errno.EPERM: "choose a folder that you may write to, as in output=FOLDER",
    errno.EROFS: "choose a folder that you may write to, as in output=FOLDER",
    errno.EEXIST: "something else is in the way: move it, or choose another folder with output=FOLDER",
    errno.ENOTDIR: "something else is in the way: move it, or choose another folder with output=FOLDER",
    errno.EMFILE: "allow more open files (ulimit -n), or set pool.sessions and pool.workers lower",
    errno.EIO: "the disk failed: choose another one with output=FOLDER",
}
"""What helps against failures of the machine; any other OSError is a bug and gets its traceback."""


class _UsageError(AgentGymError):
    """The words on the command line make no command."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (`{self.prog} --help` shows how)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after the program's name; those of this process if None.

    Returns:
        The exit code: 0, 2 after a mistake (one line for each on stderr), 130 after Ctrl-C. A bug raises.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _say([_GO_ON], INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return UNREAD
    except (AgentGymError, EnvPoolError, OSError, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            return _say([_GO_ON], INTERRUPTED)
        lines = _lines(error)
        if lines is None:
            raise
        return _say(lines, USER_ERROR)


def command() -> NoReturn:
    """What the installed program `agentgym` runs: `main`, with the modules of the current folder in reach."""
    if "" not in sys.path:
        sys.path.append("")  # last, so that nothing installed is shadowed
    sys.exit(main())


def _say(lines: list[str], code: int) -> int:
    for line in lines:
        print(f"agentgym: {line}", file=sys.stderr)
    return code


def _lines(error: BaseException) -> list[str] | None:
    """Returns what a user should read about an error; None if it is a bug."""
    if isinstance(error, AgentGymError | EnvPoolError):
        return str(error).splitlines()
    if isinstance(error, OSError) and error.errno in _CURES:
        where = f"{str(error.filename)!r}: " if error.filename is not None else ""
        return [f"{where}{error.strerror}; {_CURES[error.errno]}"]
    if isinstance(error, BaseExceptionGroup):
        parts = [_lines(part) for part in error.exceptions]
        if all(part is not None for part in parts):
            return [line for part in parts if part for line in part]
    return None


def _run(argv: list[str]) -> int:
    parser = _parser()
    if argv and not argv[0].startswith("-") and argv[0] not in _COMMANDS:
        raise _UsageError(
            f"there is no command {argv[0]!r}{did_you_mean(argv[0], _COMMANDS)} (known: {', '.join(_COMMANDS)})"
        )
    try:
        words, rest = parser.parse_known_args(argv)
    except SystemExit as end:  # --help has printed all there is
        return int(end.code or 0)
    options = [word for word in rest if word.startswith("-")]
    if options:
        raise _UsageError(f"unknown option {options[0]!r}: settings are written key=value, as in bc.lr=1e-4")
    if rest and not hasattr(words, "overrides"):
        raise _UsageError(f"{words.command} does not know what to do with {rest[0]!r}")
    if rest:
        words.overrides = [*words.overrides, *rest]
    action: Callable[[argparse.Namespace], None] = words.action
    action(words)
    sys.stdout.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="agentgym",
        description="Teaches a language model to act in many text environments, and measures how well it does.",
        epilog="Settings of a recipe are changed by key=value, as in: agentgym fit recipes/agentevol.yaml seed=1",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        text = command.summary
        each = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        each.set_defaults(action=command.action)
        command.arguments(each)
    return parser


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, as in recipes/agentevol.yaml")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="changes a setting of the recipe")


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument("--print", action="store_true", help="print the recipe with every setting filled in")


def _collect_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument(
        "--split",
        default="train",
        choices=["train", "explore", "eval"],
        help="which tasks; how many is the recipe's setting expert, explore or eval (default: train)",
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="the Parquet file (default: in the run folder)")


def _envs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one environment, to see all about it")


def _fit(words: argparse.Namespace) -> None:
    from agentgym.checks import check_fit
    from agentgym.recipe import load_recipe

    recipe = load_recipe(words.recipe, words.overrides)
    check_fit(recipe)
    from agentgym.fit import fit

    fit(recipe)


def _eval(words: argparse.Namespace) -> None:
    from agentgym.checks import check_play
    from agentgym.recipe import load_recipe
    from envpool import Split

    recipe = load_recipe(words.recipe, words.overrides)
    check_play(recipe, Split.EVAL)
    from agentgym.evaluate import evaluate

    evaluate(recipe)


def _collect(words: argparse.Namespace) -> None:
    from agentgym.checks import check_play
    from agentgym.recipe import load_recipe
    from envpool import Split

    recipe = load_recipe(words.recipe, words.overrides)
    check_play(recipe, Split(words.split))
    from agentgym.evaluate import collect

    collect(recipe, Split(words.split), words.to)


def _validate(words: argparse.Namespace) -> None:
    from agentgym.recipe import load_recipe, recipe_text

    recipe = load_recipe(words.recipe, words.overrides)
    if words.print:
        print(recipe_text(recipe), end="")
    else:
        print(f"{words.recipe} is fine; it would write to {Path(recipe.output) / recipe.name}")


def _envs(words: argparse.Namespace) -> None:
    from agentgym.catalogue import show_environment, show_environments

    if words.name:
        show_environment(words.name)
    else:
        show_environments()


class _Command(NamedTuple):
    """One command: what it does, its line in `--help`, and what adds its arguments to a parser."""

    action: Callable[[argparse.Namespace], None]
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None] = _recipe_arguments


_COMMANDS: dict[str, _Command] = {
    "fit": _Command(_fit, "teach a model as a recipe says; a run that was interrupted goes on"),
    "eval": _Command(_eval, "measure a player on the tasks that are never learned from"),
    "collect": _Command(_collect, "play tasks and write the trajectories to a Parquet file", _collect_arguments),
    "validate": _Command(_validate, "check a recipe without running it", _validate_arguments),
    "envs": _Command(_envs, "list the environments, or show one", _envs_arguments),
}
