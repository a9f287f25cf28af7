"""What `agentgym tasks` does: lists tasks, counts them, compares lists, makes panels and verifies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentgym import progress
from agentgym.data import tasklist
from agentgym.data.store import write_atomically
from agentgym.data.tasksource import read_source
from agentgym.errors import DataError
from agentgym.foreign import cards
from agentgym.itemids import ORIGINAL, other_options, why_renumbered
from agentgym.numbering import configured, plays_original
from agentgym.overlap import of_role, overlaps
from agentgym.panel import Part, load_panel, make_panel, packages_of, panel_text
from agentgym.panelcheck import Verdict, steps_of, verify
from agentgym.play import tasks_of
from agentgym.recipe import load_recipe
from envpool import Split, Task, environments, get_spec

if TYPE_CHECKING:
    import polars as pl

SHOWN = 20
"""How many tasks are printed unless the user says how many."""

MANY = 2_000
"""Instructions that are looked up without a progress bar, at most."""

DIFFERENT = 1
"""Exit code if a panel is not the same here."""


def list_tasks(
    sources: Sequence[str],
    *,
    split: Split | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    count: int | None = None,
    to: Path | None = None,
    trust: bool = False,
    console: Console | None = None,
) -> None:
    """Prints tasks with their instructions, or writes them to a file.

    Args:
        sources: see `tasksource`; all environments if there is none.
        split: only tasks of this split.
        where: only tasks with these facts.
        count: only so many, the first ones; if None, all to a file, and `SHOWN` on the screen.
        to: a file that ends in ``.parquet`` or ``.jsonl``.
        trust: whether the modules that panels name are imported.
        console: where to print.

    Raises:
        DataError: a source cannot be read, no task has such a fact, or the file's name has another ending.
        RunError: the file cannot be written.
    """
    frame = _read(sources, console, trust=trust)
    if split is not None:
        unknown = frame["split"].null_count()
        frame = frame.filter(split=str(split))
        if unknown:
            progress.show(f"{unknown:,} tasks are left out: nothing tells their split", console=console)
    frame = tasklist.where(frame, where or {})
    shown = _told(frame.head(SHOWN if count is None and to is None else frame.height if count is None else count))
    if to is not None:
        tasklist.write(to, shown)
        progress.show(f"{shown.height:,} tasks in {to}", console=console)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("task", "split", "type", "difficulty", "instruction"):
        table.add_column(title, justify="right" if title == "difficulty" else "left")
    for row in shown.iter_rows(named=True):
        _add(table, row["item_id"], row["split"], row["task_type"], row["difficulty"], row["instruction"])
    (console or _console()).print(table)
    progress.show(f"{shown.height:,} of {frame.height:,} tasks; all of them with --to FILE.parquet", console=console)


def show_stats(sources: Sequence[str], console: Console | None = None, *, trust: bool = False) -> None:
    """Prints how many tasks, kinds of tasks and instructions there are, by environment and split.

    Raises:
        DataError: a source cannot be read.
    """
    frame = _read(sources, console, trust=trust)
    console = console or _console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("environment", "version", "split"):
        table.add_column(title)
    for title in ("tasks", "types", "difficulties", "instructions"):
        table.add_column(title, justify="right")
    order = {split: number for number, split in enumerate([*map(str, Split), None])}
    groups = frame.group_by("environment", "version", "split")
    for (name, version, split), group in sorted(groups, key=lambda g: (g[0][0], g[0][1], order[g[0][2]])):
        types, texts = (group[column].drop_nulls().n_unique() for column in ("task_type", "instruction"))
        _add(table, name, version, split, f"{group.height:,}", types or None, _span(group["difficulty"]), texts or None)
    names = frame["environment"].n_unique()
    types = frame.select("environment", "task_type").drop_nulls().n_unique()
    _add(table, f"{names} environments", "", "", f"{frame.height:,}", types, "", None)
    console.print(table)


def show_overlap(
    training: str, evaluation: str, *, name_all: bool = False, trust: bool = False, console: Console | None = None
) -> None:
    """Prints which tasks of a source are also in another, by item id and by instruction.

    Args:
        training: what is learned from.
        evaluation: what is measured.
        name_all: whether every such task is named, in a line of its own.
        trust: whether the modules that panels name are imported.
        console: where to print.

    Raises:
        DataError: a source cannot be read.
    """
    learned = _of_role(training, console, evaluation=False, trust=trust)
    measured = _of_role(evaluation, console, evaluation=True, trust=trust)
    names = measured["environment"].unique().to_list()
    learned = learned.filter(learned["environment"].is_in(names))
    with _bar(tasklist.to_find(learned) + tasklist.to_find(measured)) as on_done:
        found = overlaps(learned, measured, on_done)
    for overlap in found:
        progress.show(overlap.line, console=console)
        for task in overlap.names if name_all else ():
            progress.show(f"  {task}", console=console)
    by_id = sum(len(overlap.same_id or ()) for overlap in found)
    by_text = sum(len(overlap.same_text or ()) for overlap in found)
    total = sum(overlap.tasks for overlap in found)
    verdict = (
        f"OVERLAP: {by_id} of {total} evaluation tasks are in training, and {by_text} more share an instruction with it"
        if by_id or by_text
        else f"no overlap was found among {total} evaluation tasks"
    )
    uncompared = sum(overlap.uncompared for overlap in found)
    if uncompared:
        verdict += f"; {uncompared} of them cannot be compared, neither by item id nor by instruction"
    if not name_all and any(overlap.shortened for overlap in found):
        verdict += "; --all names every one"
    progress.show(verdict, console=console)


def verify_panel(name: str, console: Console | None = None, *, trust: bool = False) -> int:
    """Looks whether the tasks of a panel are the same on this machine, and prints what is not.

    Args:
        name: the panel.
        console: where to print.
        trust: whether the modules that it names are imported.

    Returns:
        0 if all that can be looked at is the same, else `DIFFERENT`.

    Raises:
        DataError: there is no such panel, or nothing of it can be looked at here.
        RunError: an environment of it is not known here.
        MissingExtra: an environment of it needs a package that is not installed.
    """
    panel = load_panel(name)
    for environment, spec in cards(panel.environments, panel.imports, name, trust=trust).items():
        part = panel.environments[environment]
        if part.version is not None and other_options(environment, part.version):
            raise DataError(f"panel {name}: {part.complaints(spec)[0]}")
    steps = steps_of(panel)
    with _bar(steps, "verifying", unit="tasks and goldens", always=steps > 0) as on_done:
        verdict = verify(panel, lambda: on_done(1))
    unverified = [
        f"{environment}: {count} tasks are not verified: {_why_not(environment, panel.environments[environment])}"
        for environment, count in verdict.unverified.items()
    ]
    if not steps and not verdict.differences:
        why = "; ".join(unverified) or "it names no task"
        raise DataError(f"nothing of {name} can be verified ({why}): name a panel of tasks that can be played here")
    for line in unverified:
        progress.show(line, console=console)
    other: dict[tuple[str, str, str], list[str]] = {}
    for package in verdict.packages:
        other.setdefault((package.name, package.expected, package.found), []).append(package.environment)
    for (package_name, expected, here), names in other.items():
        made = f"{package_name} {expected}"
        words = f"{', '.join(names)}: the panel was made with {made}, and here is {package_name} {here}"
        progress.show(words, console=console)
    looked = (
        f"{verdict.tasks} first observations, {verdict.goldens} goldens with {verdict.turns} turns; "
        f"{', '.join(f'{package} {version}' for package, version in _versions(panel.environments).items())}"
    )
    if not verdict.differences:
        progress.show(f"{name} is the same here: {looked}", console=console)
        return 0
    (console or _console()).print(_differences(verdict))
    progress.show(f"{name} is not the same here: {len(verdict.differences)} differences in {looked}", console=console)
    return DIFFERENT


def _why_not(environment: str, part: Part) -> str:
    if get_spec(environment).served:
        return "it lives behind a server"
    if part.version is None and why_renumbered(environment) is not None:
        return f"they are other ones here ({why_renumbered(environment)})"
    return "there is no hash of them"


def write_panel(
    source: str,
    overrides: Sequence[str],
    to: Path,
    console: Console | None = None,
    *,
    imports: Sequence[str] = (),
    trust: bool = False,
) -> None:
    """Makes a panel of a recipe's evaluation tasks, or of a list of tasks.

    Args:
        source: a recipe (``.yaml``), or a source of tasks as `tasksource` knows them.
        overrides: `key=value` texts for the recipe.
        to: the panel file.
        console: where to print.
        imports: modules that the user named, and that have been imported; the panel remembers them.
        trust: whether the modules that a source names, if it is a panel, are imported.

    Raises:
        RecipeError: the recipe is wrong, or there is no evaluation task.
        DataError: the source cannot be read, or has a task that is another one here.
    """
    if source.endswith((".yaml", ".yml")):
        recipe = load_recipe(source, overrides)
        imports = [*dict.fromkeys([*recipe.imports, *imports])]
        for name in recipe.environments:
            if plays_original(recipe, name):
                why = f"{name} is played on original servers, whose tasks are other ones here ({why_renumbered(name)})"
                raise DataError(f"{why}: leave {name} out, or name an AgentEval list as the panel of a recipe")
        tasks = tasks_of(recipe, Split.EVAL)
        if not tasks:
            raise DataError(f"{source} has no evaluation task: set environments.NAME.eval")
        with configured(recipe):
            panel = make_panel(to.stem, tasks, imports=imports)
    else:
        tasks = _numbered_here(_of_role(source, console, evaluation=True, trust=trust), console)
        panel = make_panel(to.stem, tasks, imports=imports)
    write_atomically(to, panel_text(panel).encode())
    counts = ", ".join(f"{len(part.tasks)} {name}" for name, part in panel.environments.items())
    goldens = sum(len(part.goldens) for part in panel.environments.values())
    progress.show(f"{to}: {counts}; {goldens} goldens", console=console)


def _read(sources: Sequence[str], console: Console | None, *, trust: bool) -> pl.DataFrame:
    """The tasks of some sources; of all environments if there is none."""
    tell = partial(progress.show, console=console)
    return tasklist.joined([read_source(source, tell, trust=trust) for source in sources or environments()])


def _of_role(source: str, console: Console | None, *, evaluation: bool, trust: bool) -> pl.DataFrame:
    frame = _read([source], console, trust=trust)
    part = of_role(frame, evaluation=evaluation)
    left = frame.height - part.height
    if left:
        splits = ", ".join(sorted({*frame["split"]} - {*part["split"]}))
        role = "evaluation" if evaluation else "training"
        progress.show(f"{source}: {left:,} tasks of split {splits} are left out of {role}", console=console)
    return part


def _numbered_here(frame: pl.DataFrame, console: Console | None) -> list[Task]:
    """The tasks of a list by their numbers here; those that the original numbers otherwise are found by their goal."""
    tasks: list[Task] = []
    found: Counter[str] = Counter()
    candidates: dict[str, dict[str, list[int]]] = {}
    for row in frame.iter_rows(named=True):
        name, index = row["environment"], row["index"]
        if other_options(name, row["version"]):
            raise DataError(
                f"{row['item_id']!r} is of version {row['version']} of {name}, and here is version "
                f"{get_spec(name).version}, other tasks: give {name} the options and the data that it was played with"
            )
        if why_renumbered(name) is not None and row["version"] in ORIGINAL:
            if name not in candidates:
                candidates[name] = _by_goal(name)
            same_goal = candidates[name].get(row["instruction"] or "", [])
            if not same_goal:
                why = "its goal is not told" if row["instruction"] is None else "no evaluation task here has its goal"
                raise DataError(
                    f"{row['item_id']!r} is another task here ({why_renumbered(name)}), and {why}: give a list with "
                    f"conversations, or leave {name} out and play it on the original server"
                )
            index = same_goal.pop(0)
            found[name] += 1
        if index is None:
            raise DataError(f"{row['item_id']!r} names no number of a task: leave it out")
        tasks.append(Task(name, index))
    for name, count in found.items():
        progress.show(
            f"{name}: {count} tasks were chosen by their goal, other tasks with the same goal: {why_renumbered(name)}",
            console=console,
        )
    return tasks


def _by_goal(name: str) -> dict[str, list[int]]:
    """The evaluation tasks of an environment by instruction; none where the instruction does not tell them apart."""
    frame = tasklist.with_instructions(tasklist.of_environment(get_spec(name), [Split.EVAL]))
    goals: dict[str, list[int]] = {}
    for index, text in frame.select("index", "instruction").iter_rows():
        goals.setdefault(text, []).append(index)
    return goals if len(goals) > 1 else {}


def _versions(names: Sequence[str] | Mapping[str, object]) -> dict[str, str]:
    return {package: version for name in names for package, version in packages_of(name).items()}


def _differences(verdict: Verdict) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("environment", "task", "where", "expected", "found"):
        table.add_column(title)
    for d in verdict.differences:
        _add(table, d.environment, d.item_id, d.where, d.expected, d.found)
    return table


def _told(frame: pl.DataFrame) -> pl.DataFrame:
    with _bar(tasklist.to_find(frame)) as on_done:
        return tasklist.with_instructions(frame, on_done)


@contextmanager
def _bar(
    total: int, title: str = "reading instructions", *, unit: str = "tasks", always: bool = False
) -> Iterator[Callable[[int], None]]:
    if total <= MANY and not always:
        yield lambda count: None
        return
    with progress.phase(title, total, unit=unit) as bar:
        yield bar.advance


def _span(difficulties: pl.Series) -> str | None:
    known = difficulties.drop_nulls().to_list()
    if not known:
        return None
    low, high = min(known), max(known)
    return str(low) if low == high else f"{low}-{high}"


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text("-" if cell is None else progress.visible(str(cell))) for cell in cells))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)
