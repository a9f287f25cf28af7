"""What `agentgym envs` shows: the environments there are, or everything about one."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from envpool import EnvSpec, MissingExtra, Split, environments, get_spec
from envpool.calls import Toolbox
from envpool.direct import directly
from envpool.formats import REACT

SAMPLE = 500
"""How many tasks of each split are looked at to list the values of facts."""


def show_environments(console: Console | None = None) -> None:
    """Prints a table of all known environments."""
    console = console or _console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("environment", "what it is"):
        table.add_column(title)
    for title in (*(str(split) for split in Split), "turns"):
        table.add_column(title, justify="right")
    for title in ("metric", "expert", "ready"):
        table.add_column(title)
    for name in environments():
        spec = get_spec(name)
        counts = [f"{len(spec.tasks(split)):,}" for split in Split]
        table.add_row(
            name, spec.summary, *counts, str(spec.max_turns), spec.metric, "yes" if spec.expert else "no", _ready(spec)
        )
    console.print(table)
    console.print("train, explore, eval: how many tasks; `agentgym envs NAME` shows one environment", style="dim")


def show_environment(name: str, console: Console | None = None) -> None:
    """Prints all about one environment: facts of its tasks, instructions, and how a task begins.

    Raises:
        UnknownEnvironment: there is none of that name.
        MissingExtra: what it needs is not installed.
    """
    console = console or _console()
    spec = get_spec(name)
    low, high = spec.score_range
    facts = [f"  {fact}: {values}" for fact, values in _facts(spec).items()] or ["  none"]
    options = [f"  {option}" for option in spec.declared.values()] or ["  none"]
    parts = [
        f"{spec.name} (version {spec.version}): {spec.summary}",
        "tasks: " + ", ".join(f"{len(spec.tasks(split)):,} {split}" for split in Split),
        f"turn limit {spec.max_turns}; scores {low:g} to {high:g}, success above {spec.success_above:g};"
        f" benchmarks report {spec.metric}{f' by {spec.task_type}' if spec.task_type else ''};"
        f" {'has an' if spec.expert else 'no'} expert",
        "facts for `where`:\n" + "\n".join(facts),
        "options for `environments.NAME.options`:\n" + "\n".join(options),
        "tools:\n" + _indented(Toolbox.of(spec).forms),
        "instructions (prompt: full):\n" + _indented(f"{spec.instructions}\n\n{REACT.instructions}"),
        "instructions (prompt: brief):\n" + _indented(spec.brief),
    ]
    if spec.served:
        console.print("\n\n".join(parts), markup=False, highlight=False, soft_wrap=True)
        return
    first = spec.tasks(Split.TRAIN)[0]
    with directly(spec) as live:
        parts.append(f"task {first} begins:\n" + _indented(live.call("reset", first)))
    console.print("\n\n".join(parts), markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _ready(spec: EnvSpec) -> str:
    """Says whether the environment can be made here, by making it."""
    if spec.served:
        return "behind a server"
    if spec.extra is None:
        return "yes"
    try:
        with directly(spec):
            pass
    except MissingExtra:
        return f"pip install 'agentgym-lightning\\[{spec.extra}]'"
    return f"yes ({spec.extra})"


def _facts(spec: EnvSpec) -> Mapping[str, str]:
    """Returns the values of each fact that occur among some tasks of every split."""
    found: dict[str, set[int | str]] = {}
    for split in Split:
        indices = spec.tasks(split)
        for index in random.Random(0).sample(indices, min(SAMPLE, len(indices))):
            for fact, value in spec.facts(index).items():
                found.setdefault(fact, set()).add(value)
    return {fact: _values(values) for fact, values in found.items()}


def _values(values: set[int | str]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    if len(numbers) > 12:
        return f"{numbers[0]} to {numbers[-1]}"
    words = sorted(value for value in values if isinstance(value, str))
    shown = [str(value) for value in (*numbers, *words)[:12]]
    return ", ".join([*shown, "..."] if len(values) > 12 else shown)


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ", lambda line: True)
