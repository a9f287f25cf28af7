"""The commands. The only place that prints an error.

Whatever needs torch is imported by the command that needs it, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from agentgym.errors import AgentGymError, RecipeError
from agentgym.ranks import is_first_rank
from envpool.errors import EnvPoolError, did_you_mean

if TYPE_CHECKING:
    from agentgym.settings import Recipe

UNREAD = 1
"""Exit code if whoever reads the output went away, as `head` does; rich has the same."""
USER_ERROR = 2
"""Exit code after a mistake of the user, or when the machine is out of something."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
PREEMPTED = 75
"""Exit code after SIGTERM, once all is saved: BSD's "temporary failure, try again"."""
_GO_ON = "interrupted: the same command goes on where it was"
_SAVED = "stopped by SIGTERM, all is saved: the same command goes on where it was"

_TERMINATED = 128 + signal.SIGTERM  # with which phases end

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
        The exit code: 0, 2 after a mistake (one line for each on stderr), 130 after Ctrl-C, 75 after SIGTERM. A bug
        raises.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _say([_GO_ON], INTERRUPTED)
    except SystemExit as end:
        if end.code != _TERMINATED:
            raise
        return _say([_SAVED], PREEMPTED)
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
    action: Callable[[argparse.Namespace], int | None] = words.action
    code = action(words)
    sys.stdout.flush()
    return code or 0


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


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument(
        "--player",
        action="append",
        metavar="NAME",
        help="whom to measure: `expert`, `random`, a model's folder or a Hugging Face id; several, one row each "
        "(eval.players)",
    )
    parser.add_argument("--sample", type=int, metavar="K", help="try each task K times (eval.samples)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N tasks an environment (eval.limit)")


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    which = "RUN:3 and RUN:control name an iteration of a fit, RUN:NAME a player of an eval"
    parser.add_argument("baseline", metavar="RUN_A", help=f"a run folder of fit or eval; {which}")
    parser.add_argument("candidate", metavar="RUN_B", help="the same")
    parser.add_argument("--iteration", type=int, metavar="N", help="which iteration of a fit (default: the last one)")


def _transfer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of fit or eval, as `compare` has them")
    parser.add_argument("--baseline", metavar="RUN", help="what every cell is compared with, as in runs/base:random")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of fit or eval")


def _envs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one environment, to see all about it")


def _tasks_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="list | stats | overlap | verify | panel", required=True)
    sources = "environments (maze, maze:eval), files, run folders or panels; all environments if none is named"

    def part(name: str, action: Callable[[argparse.Namespace], int | None], summary: str) -> argparse.ArgumentParser:
        each = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        each.set_defaults(action=action)
        return each

    lists = part("list", _tasks_list, "print tasks with their instructions, or write them to a file")
    lists.add_argument("sources", nargs="*", metavar="ENV", help=sources)
    lists.add_argument("--split", choices=["train", "explore", "eval"], help="only tasks of this split")
    lists.add_argument(
        "--where", action="append", default=[], metavar="FACT=VALUE", help="only tasks with this fact, as in depth=1,2"
    )
    lists.add_argument("-n", type=int, metavar="N", help="only the first N (default: 20, or all to a file)")
    lists.add_argument("--to", type=Path, metavar="FILE", help="write them to FILE.parquet or FILE.jsonl")
    stats = part("stats", _tasks_stats, "count tasks, task types and difficulties")
    stats.add_argument("sources", nargs="*", metavar="ENV", help=sources)
    overlap = part("overlap", _tasks_overlap, "say which evaluation tasks are in training, by item id and instruction")
    overlap.add_argument("training", metavar="TRAINING", help="a file, run folder, panel, or ENV:SPLIT")
    overlap.add_argument("evaluation", metavar="EVALUATION", help="likewise")
    verify = part("verify", _tasks_verify, "check that a panel's tasks are the same on this machine")
    verify.add_argument("panel", nargs="?", default="agenteval-mini", metavar="PANEL", help="default: agenteval-mini")
    panel = part("panel", _tasks_panel, "pin the evaluation tasks of a recipe in a file")
    panel.add_argument("recipe", metavar="RECIPE", help="a recipe, or a list of tasks such as babyai_test.json")
    panel.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="changes a setting of the recipe")
    panel.add_argument("--to", type=Path, required=True, metavar="FILE.json", help="the panel")


def _traj_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="show | stats | export | import", required=True)

    def part(name: str, action: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        each = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        each.set_defaults(action=action)
        if name == "import":
            what = "AgentTraj JSON, JSON lines, folders of them, or hf://OWNER/DATASET"
            each.add_argument("sources", nargs="+", metavar="FILE", help=what)
            return each
        what = "trajectory files (Parquet), folders of them, or run folders"
        each.add_argument("sources", nargs="+", type=Path, metavar="FILE", help=what)
        where = "only these, as in environment=maze,success=true,iteration=2"
        each.add_argument("--where", metavar="KEY=VALUE,...", help=where)
        return each

    show = part("show", _traj_show, "print conversations")
    show.add_argument("--item", metavar="ID", help="only this task, as in maze_3")
    show.add_argument("-n", type=int, default=1, metavar="N", help="how many (default: 1)")
    part("stats", _traj_stats, "count episodes, successes, turns, tokens and errors")
    export = part("export", _traj_export, "write AgentTraj, or roles and rewards, for other programs")
    export.add_argument("--to", type=Path, required=True, metavar="FILE", help="FILE.json (AgentTraj) or FILE.jsonl")
    imports = part("import", _traj_import, "read other programs' files; damaged records are set aside")
    imports.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new FILE.parquet, or a folder")


def _fit(words: argparse.Namespace) -> int:
    from agentgym.checks import check_fit
    from agentgym.ranks import launch, started, world_size
    from agentgym.recipe import load_recipe

    recipe = load_recipe(words.recipe, words.overrides)
    check_fit(recipe)
    from agentgym.fit import fit

    if world_size(recipe.trainer) == 1 or started():
        fit(recipe)
        return 0
    if recipe.trainer.num_nodes > 1:
        raise RecipeError(
            ["trainer.num_nodes: several nodes are started by torchrun or srun, as docs/scaling.md shows"]
        )
    from agentgym.fit import prepare

    prepare(recipe)
    return launch(["fit", words.recipe, *words.overrides], recipe.trainer.devices)


def _eval(words: argparse.Namespace) -> None:
    from agentgym.checks import check_eval
    from agentgym.recipe import load_recipe

    options = {"players": words.player, "samples": words.sample, "limit": words.limit}
    given = [f"eval.{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    recipe = load_recipe(words.recipe, [*words.overrides, *given])
    check_eval(recipe)
    _tell_prompts(recipe)
    from agentgym.evaluate import evaluate

    evaluate(recipe)


def _collect(words: argparse.Namespace) -> None:
    from agentgym.checks import check_play
    from agentgym.recipe import load_recipe
    from envpool import Split

    recipe = load_recipe(words.recipe, words.overrides)
    check_play(recipe, Split(words.split))
    _tell_prompts(recipe)
    from agentgym.evaluate import collect

    collect(recipe, Split(words.split), words.to)


def _validate(words: argparse.Namespace) -> None:
    from agentgym.recipe import load_recipe, recipe_text

    recipe = load_recipe(words.recipe, words.overrides)
    if words.print:
        print(recipe_text(recipe), end="")
    else:
        _tell_prompts(recipe)
        print(f"{words.recipe} is fine; it would write to {Path(recipe.output) / recipe.name}")


def _compare(words: argparse.Namespace) -> None:
    from agentgym.compare import compare

    compare(words.baseline, words.candidate, words.iteration)


def _transfer(words: argparse.Namespace) -> None:
    from agentgym.compare import transfer

    transfer(words.runs, words.baseline)


def _report(words: argparse.Namespace) -> None:
    from agentgym.evaluation.html import rebuild

    rebuild(words.run)


def _envs(words: argparse.Namespace) -> None:
    from agentgym.catalogue import show_environment, show_environments

    if words.name:
        show_environment(words.name)
    else:
        show_environments()


def _tasks_list(words: argparse.Namespace) -> None:
    from agentgym.tasks import list_tasks
    from envpool import Split

    where: dict[str, list[str]] = {}
    for text in words.where:
        fact, equals, values = text.partition("=")
        if not equals:
            raise _UsageError(f"--where {text!r} is not written FACT=VALUE, as in depth=1,2")
        where.setdefault(fact, []).extend(values.split(","))
    if words.n is not None and words.n < 1:
        raise _UsageError(f"-n {words.n}: at least one task")
    split = Split(words.split) if words.split else None
    list_tasks(words.sources, split=split, where=where, count=words.n, to=words.to)


def _tasks_stats(words: argparse.Namespace) -> None:
    from agentgym.tasks import show_stats

    show_stats(words.sources)


def _tasks_overlap(words: argparse.Namespace) -> None:
    from agentgym.tasks import show_overlap

    show_overlap(words.training, words.evaluation)


def _tasks_verify(words: argparse.Namespace) -> int:
    from agentgym.tasks import verify_panel

    return verify_panel(words.panel)


def _tasks_panel(words: argparse.Namespace) -> None:
    from agentgym.tasks import write_panel

    write_panel(words.recipe, words.overrides, words.to)


def _traj_show(words: argparse.Namespace) -> None:
    from agentgym.traj import filters, show

    item = {"item_id": words.item} if words.item else {}
    show(words.sources, {**filters(words.where), **item}, words.n)


def _traj_stats(words: argparse.Namespace) -> None:
    from agentgym.traj import filters, stats

    stats(words.sources, filters(words.where))


def _traj_export(words: argparse.Namespace) -> None:
    from agentgym.traj import export, filters

    export(words.sources, words.to, filters(words.where))


def _traj_import(words: argparse.Namespace) -> None:
    from agentgym.traj import bring_in

    bring_in(words.sources, words.to)


def _tell_prompts(recipe: Recipe) -> None:
    """With `prompt: from_data`, finds the prompts now, and says where there were several to choose from."""
    from agentgym.settings import Prompt

    if recipe.prompt is Prompt.from_data:
        from agentgym import progress
        from agentgym.data.prompts import data_prompts

        for note in data_prompts(recipe).notes:
            progress.show(note)


class _Command(NamedTuple):
    """A command: what it does (it may return an exit code), its line in `--help`, and what adds its arguments."""

    action: Callable[[argparse.Namespace], int | None]
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None] = _recipe_arguments


_COMMANDS: dict[str, _Command] = {
    "fit": _Command(_fit, "teach a model as a recipe says; a run that was interrupted goes on"),
    "eval": _Command(_eval, "measure players on the tasks that are never learned from", _eval_arguments),
    "compare": _Command(_compare, "say whether one run is better than another", _compare_arguments),
    "transfer": _Command(_transfer, "show what was learned where, and how it does elsewhere", _transfer_arguments),
    "report": _Command(_report, "make report.html anew, also of a run that is not finished", _report_arguments),
    "collect": _Command(_collect, "play tasks and write the trajectories to a Parquet file", _collect_arguments),
    "validate": _Command(_validate, "check a recipe without running it", _validate_arguments),
    "envs": _Command(_envs, "list the environments, or show one", _envs_arguments),
    "traj": _Command(_traj_show, "look into trajectory files, export and import them", _traj_arguments),
    "tasks": _Command(lambda words: None, "list, compare and pin tasks", _tasks_arguments),
}
