"""What each command is called, which words it takes, and which room does it.

A room is imported by the command that needs it, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentgym.errors import RecipeError, UsageError
from envpool.imports import add_import_option

if TYPE_CHECKING:
    from agentgym.settings import Recipe


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, as in recipes/agentevol.yaml")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="changes a setting of the recipe")
    add_import_option(parser)


def _add_trust(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--trust", action="store_true", help=f"import the modules that {what} names: this runs them")


def _add_options(parser: argparse.ArgumentParser) -> None:
    what = "an option of an environment, as in my_env.words=my_words.txt; in a recipe environments.NAME.options"
    parser.add_argument("--option", dest="options", metavar="NAME.OPTION=VALUE", action="append", default=[], help=what)


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
    add_import_option(parser)
    _add_trust(parser, "the recipe of a run")


def _transfer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of fit or eval, as `compare` has them")
    parser.add_argument("--baseline", metavar="RUN", help="what every cell is compared with, as in runs/base:random")
    add_import_option(parser)
    _add_trust(parser, "the recipe of a run")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of fit or eval")
    add_import_option(parser)
    _add_trust(parser, "the recipe of the run")


def _envs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one environment, to see all about it")
    add_import_option(parser)
    _add_options(parser)


def _tasks_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="list | stats | overlap | verify | panel", required=True)
    sources = "environments (NAME, NAME:eval), files, run folders or panels; all environments if none is named"

    def part(name: str, action: Callable[[argparse.Namespace], int | None], summary: str) -> argparse.ArgumentParser:
        each = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        each.set_defaults(action=action)
        add_import_option(each)
        _add_options(each)
        _add_trust(each, "a panel")
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
    overlap.add_argument("--all", action="store_true", help="name every such task, one a line")
    verify = part("verify", _tasks_verify, "check that a panel's tasks are the same on this machine")
    verify.add_argument("panel", nargs="?", default="agenteval-mini", metavar="PANEL", help="default: agenteval-mini")
    panel = part("panel", _tasks_panel, "pin the evaluation tasks of a recipe in a file")
    panel.add_argument("recipe", metavar="RECIPE", help="a recipe, or a list of tasks such as NAME_test.json")
    panel.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="changes a setting of the recipe")
    panel.add_argument("--to", type=Path, required=True, metavar="FILE.json", help="the panel")


def _traj_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="show | stats | export | import", required=True)

    def part(name: str, action: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        each = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        each.set_defaults(action=action)
        add_import_option(each)
        _add_options(each)
        if name == "import":
            what = "JSON, JSON lines, Parquet, folders of them, or hf://OWNER/DATASET"
            each.add_argument("sources", nargs="+", metavar="FILE", help=what)
            return each
        what = "trajectory files (Parquet), folders of them, or run folders"
        each.add_argument("sources", nargs="+", type=Path, metavar="FILE", help=what)
        where = "only these, as in environment=NAME,success=true,iteration=2; a key that is there twice may be either"
        each.add_argument("--where", metavar="KEY=VALUE,...", help=where)
        return each

    show = part("show", _traj_show, "print conversations")
    show.add_argument("--item", metavar="ID", help="only this task, as in NAME_3")
    show.add_argument("-n", type=int, default=1, metavar="N", help="how many (default: 1)")
    part("stats", _traj_stats, "count episodes, successes, turns, tokens and errors")
    export = part("export", _traj_export, "write AgentTraj, or roles and rewards, for other programs")
    export.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="a new FILE.json (AgentTraj) or FILE.jsonl"
    )
    forms = "agenttraj (.json), rollouts (.jsonl) or messages (.jsonl, for TRL); the default goes by the file's name"
    export.add_argument("--as", dest="form", metavar="FORM", help=forms)
    tokens = "also write input_ids and assistant_masks of this model's tokenizer (messages only)"
    export.add_argument("--tokenizer", metavar="MODEL", help=tokens)
    imports = part("import", _traj_import, "read other programs' files; damaged records are set aside")
    imports.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new FILE.parquet, or a folder")
    names = "environment of records whose item id does not tell it (default: as the file is named)"
    imports.add_argument("--environment", metavar="NAME", help=names)


def _fit(words: argparse.Namespace) -> int:
    from agentgym.preflight import check_fit
    from agentgym.ranks import launch, started, world_size

    recipe = _load(words)
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
    imports = [f"--import={module}" for module in words.imports]
    return launch(["fit", words.recipe, *words.overrides, *imports], recipe.trainer.devices)


def _load(words: argparse.Namespace, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe; modules that the command names (and has imported) are from now on part of it."""
    from agentgym.recipe import load_recipe

    recipe = load_recipe(words.recipe, [*words.overrides, *overrides])
    recipe.imports = [*dict.fromkeys([*recipe.imports, *words.imports])]
    return recipe


def _eval(words: argparse.Namespace) -> None:
    from agentgym.evaluate import evaluate

    options = {"players": words.player, "samples": words.sample, "limit": words.limit}
    given = [f"eval.{name}={json.dumps(value)}" for name, value in options.items() if value is not None]
    evaluate(_load(words, given))


def _collect(words: argparse.Namespace) -> None:
    from agentgym.evaluate import collect

    collect(_load(words), words.split, words.to)


def _validate(words: argparse.Namespace) -> None:
    from agentgym.recipe import recipe_text

    recipe = _load(words)
    if words.print:
        print(recipe_text(recipe), end="")
    else:
        _tell_prompts(recipe)
        print(f"{words.recipe} is fine; it would write to {Path(recipe.output) / recipe.name}")


def _compare(words: argparse.Namespace) -> None:
    from agentgym.compare import compare

    compare(words.baseline, words.candidate, words.iteration, trust=words.trust)


def _transfer(words: argparse.Namespace) -> None:
    from agentgym.compare import transfer

    transfer(words.runs, words.baseline, trust=words.trust)


def _report(words: argparse.Namespace) -> None:
    from agentgym.evaluation.html import rebuild

    rebuild(words.run, trust=words.trust)


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
            raise UsageError(f"--where {text!r} is not written FACT=VALUE, as in depth=1,2")
        where.setdefault(fact, []).extend(values.split(","))
    if words.n is not None and words.n < 1:
        raise UsageError(f"-n {words.n}: at least one task")
    split = Split(words.split) if words.split else None
    list_tasks(words.sources, split=split, where=where, count=words.n, to=words.to, trust=words.trust)


def _tasks_stats(words: argparse.Namespace) -> None:
    from agentgym.tasks import show_stats

    show_stats(words.sources, trust=words.trust)


def _tasks_overlap(words: argparse.Namespace) -> None:
    from agentgym.tasks import show_overlap

    show_overlap(words.training, words.evaluation, name_all=words.all, trust=words.trust)


def _tasks_verify(words: argparse.Namespace) -> int:
    from agentgym.tasks import verify_panel

    return verify_panel(words.panel, trust=words.trust)


def _tasks_panel(words: argparse.Namespace) -> None:
    from agentgym.tasks import write_panel

    write_panel(words.recipe, words.overrides, words.to, imports=words.imports, trust=words.trust)


def _traj_show(words: argparse.Namespace) -> None:
    from agentgym.data.where import filters
    from agentgym.traj import show

    if words.n < 1:
        raise UsageError(f"-n {words.n}: at least one episode")
    where = filters(words.where)
    if words.item is not None:
        where.setdefault("item_id", []).append(words.item)
    show(words.sources, where, words.n)


def _traj_stats(words: argparse.Namespace) -> None:
    from agentgym.data.where import filters
    from agentgym.traj import stats

    stats(words.sources, filters(words.where))


def _traj_export(words: argparse.Namespace) -> None:
    from agentgym.data.where import filters
    from agentgym.traj import export

    export(words.sources, words.to, filters(words.where), words.form, words.tokenizer)


def _traj_import(words: argparse.Namespace) -> None:
    from agentgym.traj import bring_in

    bring_in(words.sources, words.to, words.environment)


def _tell_prompts(recipe: Recipe) -> None:
    """With `prompt: from_data`, finds the prompts now, and says where there were several to choose from."""
    from agentgym.settings import Prompt

    if recipe.prompt == Prompt.from_data:
        from agentgym import progress
        from agentgym.data.prompts import data_prompts

        for note in data_prompts(recipe).notes:
            progress.show(note)


class Command(NamedTuple):
    """A command: what it does (it may return an exit code), its line in `--help`, and what adds its arguments."""

    action: Callable[[argparse.Namespace], int | None]
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None] = _recipe_arguments


COMMANDS: dict[str, Command] = {
    "fit": Command(_fit, "teach a model as a recipe says; a run that was interrupted goes on"),
    "eval": Command(_eval, "measure players on the tasks that are never learned from", _eval_arguments),
    "compare": Command(_compare, "say whether one run is better than another", _compare_arguments),
    "transfer": Command(_transfer, "show what was learned where, and how it does elsewhere", _transfer_arguments),
    "report": Command(_report, "write report.html again, also of a run that is not finished", _report_arguments),
    "collect": Command(_collect, "play tasks and write the trajectories to a Parquet file", _collect_arguments),
    "validate": Command(_validate, "check a recipe without running it", _validate_arguments),
    "envs": Command(_envs, "list the environments, or show one", _envs_arguments),
    "traj": Command(_traj_show, "look into trajectory files, export and import them", _traj_arguments),
    "tasks": Command(lambda words: None, "list, compare and pin tasks", _tasks_arguments),
}
