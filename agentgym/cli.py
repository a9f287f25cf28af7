"""The program `agentgym`: from words to an exit code. The only place that prints an error."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from agentgym.commands import COMMANDS
from agentgym.errors import AgentGymError, NothingFinished, UsageError
from agentgym.progress import visible
from agentgym.ranks import is_first_rank
from envpool import EnvSpec, using
from envpool.errors import EnvPoolError, did_you_mean
from envpool.imports import import_named
from envpool.registry import spec_by_words

UNREAD = 1
"""Exit code if whoever reads the output went away, as `head` does; rich has the same."""
USER_ERROR = 2
"""Exit code after a mistake of the user, or when the machine is out of something."""
NOTHING_FINISHED = 3
"""Exit code if no episode of a run, or of a phase of `fit`, came to an end by itself."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
PREEMPTED = 75
"""Exit code after SIGTERM: BSD's "temporary failure, try again"."""
_GOES_ON = ("fit", "eval", "collect")
"""Commands that save what they have done."""

_TERMINATED = 128 + signal.SIGTERM  # with which phases end

_CURES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EACCES: "choose a folder that you may use, or change its permissions",
    errno.EPERM: "choose a folder that you may use, or change its permissions",
    errno.EROFS: "choose a folder that you may write to",
    errno.EEXIST: "something else is in the way: move it, or choose another folder",
    errno.ENOTDIR: "something else is in the way: move it, or choose another folder",
    errno.EMFILE: "allow more open files (ulimit -n), or set pool.sessions and pool.workers lower",
    errno.EIO: "the disk failed: choose another one",
    errno.ENAMETOOLONG: "choose a shorter one",
}
"""What helps against failures of the machine; any other OSError is a bug and gets its traceback."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows how)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after the program's name; those of this process if None.

    Returns:
        The exit code: 0, 2 after a mistake (one line for each on stderr), 3 if no episode finished (their causes on
        stderr), 130 after Ctrl-C, 75 after SIGTERM. A bug raises.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    saved = bool(words) and words[0] in _GOES_ON
    interrupted = "interrupted" + (": the same command goes on where it was" if saved else "")
    stopped = "stopped by SIGTERM" + (", all is saved: the same command goes on where it was" if saved else "")
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        return _run(words)
    except KeyboardInterrupt:
        return _say([interrupted], INTERRUPTED)
    except SystemExit as end:
        if end.code != _TERMINATED:
            raise
        return _say([stopped], PREEMPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return UNREAD
    except (AgentGymError, EnvPoolError, OSError, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            return _say([interrupted], INTERRUPTED)
        lines = _lines(error)
        if lines is None:
            raise
        return _say(lines, NOTHING_FINISHED if isinstance(error, NothingFinished) else USER_ERROR)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, handler)


def _terminate(signum: int, frame: object) -> NoReturn:
    raise SystemExit(_TERMINATED)


def command() -> NoReturn:
    """What the installed program `agentgym` runs: `main`, with the modules of the current folder in reach."""
    if "" not in sys.path:
        sys.path.append("")  # last, so that nothing installed is shadowed
    sys.exit(main())


def _say(lines: list[str], code: int) -> int:
    for line in lines if is_first_rank() or code == USER_ERROR else []:
        print(f"agentgym: {visible(line)}", file=sys.stderr)
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
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UsageError(
            f"there is no command {argv[0]!r}{did_you_mean(argv[0], COMMANDS)} (known: {', '.join(COMMANDS)})"
        )
    try:
        words, rest = parser.parse_known_args(argv)
    except SystemExit as end:  # --help has printed all there is
        return int(end.code or 0)
    options = [word for word in rest if word.startswith("-")]
    if options:
        settings = hasattr(words, "overrides")
        cure = "settings are written key=value, as in bc.lr=1e-4" if settings else "--help lists what there is"
        raise UsageError(f"unknown option {options[0]!r}: {cure}")
    if rest and not hasattr(words, "overrides"):
        raise UsageError(f"{words.command} does not know what to do with {rest[0]!r}")
    if rest:
        words.overrides = [*words.overrides, *rest]
    import_named(words.imports)
    action: Callable[[argparse.Namespace], int | None] = words.action
    with using(_configured(getattr(words, "options", []))):
        code = action(words)
    sys.stdout.flush()
    return code or 0


def _configured(words: Sequence[str]) -> list[EnvSpec]:
    """The cards of the environments that a command gives options, each written NAME.OPTION=VALUE."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, dot, option = word.partition(".")
        if not dot or "=" in name:
            raise UsageError(f"--option {word!r} is not written NAME.OPTION=VALUE, as in my_env.words=my_words.txt")
        found.setdefault(name, []).append(option)
    return [spec_by_words(name, options) for name, options in found.items()]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="agentgym",
        description="Teaches a language model to act in many text environments, and measures how well it does.",
        epilog="Settings of a recipe are changed by key=value, as in: agentgym fit recipes/agentevol.yaml seed=1",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text = command.summary
        each = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        each.set_defaults(action=command.action)
        command.arguments(each)
    return parser
