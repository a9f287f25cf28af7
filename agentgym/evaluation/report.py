"""The report of a run: a table for the terminal, report.json and report.md.

The table and report.md depend on what was measured only; wall times, versions and the machine are in report.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentgym.data.store import write_atomically
from agentgym.errors import DataError
from agentgym.evaluation.answers import LEARNED, Answers, answers_of, warnings
from agentgym.evaluation.ends import Ends, ends_of, has_score
from agentgym.evaluation.pairs import Pairing, pair
from agentgym.evaluation.players import Played
from agentgym.evaluation.tables import (
    TESTED,
    figures_markdown,
    figures_table,
    markdown_table,
    p_text,
    pairs_markdown,
    points,
)
from agentgym.evaluation.why import Told, looked_at, why_lines, why_markdown
from agentgym.settings import Recipe
from envpool import Trajectory, environments, get_spec

TITLE = "% of held-out tasks solved [95 % interval]"
"""What stands above the table."""

PACKAGES = ("agentgym-lightning", "torch", "lightning", "transformers", "peft", "trio", "polars")
"""The packages whose versions a report names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """What an iteration's exploration brought.

    Attributes:
        tried: episodes played.
        finished: of these, those that came to an end by themselves.
        errored: of these, those that did not.
        succeeded: of the finished, those that the environment's success rule accepts.
        kept: those that are learned from, of earlier iterations too where the recipe merges them.
        newly_solved: tasks that succeeded for the first time in the run.
        answers: what the answers held.
        ends: how the episodes ended.
    """

    tried: int
    finished: int
    errored: int
    succeeded: int
    kept: int
    newly_solved: int
    answers: Answers = field(default_factory=Answers)
    ends: Ends = field(default_factory=Ends)

    @classmethod
    def of(cls, played: Sequence[Trajectory], *, kept: int, newly_solved: int) -> Explored:
        """Sums up an exploration.

        Args:
            played: its episodes.
            kept: as above.
            newly_solved: as above.
        """
        finished = sum(map(has_score, played))
        return cls(
            tried=len(played),
            finished=finished,
            errored=len(played) - finished,
            succeeded=sum(has_score(t) and bool(t.success) for t in played),
            kept=kept,
            newly_solved=newly_solved,
            answers=answers_of(played, {name: get_spec(name) for name in {t.task.environment for t in played}}),
            ends=ends_of(played),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a learning phase consumed.

    Attributes:
        steps: optimiser steps.
        tokens: tokens seen, each as often as it was seen.
        trajectories: how many different trajectories there were to learn from.
        loss: of the last optimiser step, in nats a token; None where it is not known.
        cut: turns that were not learned from because their trajectories did not fit in the context.
    """

    steps: int
    tokens: int
    trajectories: int
    loss: float | None = None
    cut: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """One row of the report.

    Attributes:
        iteration: 0 is behavioural cloning; the control carries the number of the iteration that it is matched to.
        played: how the policy did on the held-out tasks.
        learned: what it learned from.
        explored: what exploration brought; None where nothing was explored.
    """

    iteration: int
    played: Played
    learned: Learned
    explored: Explored | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the row as report.json has it."""
        row: dict[str, Any] = {"iteration": self.iteration, **self.played.to_json()}
        if self.explored is not None:
            row["explored"] = asdict(self.explored)
        return {**row, "learned": asdict(self.learned)}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run measured.

    Attributes:
        name: of the run.
        seed: of the run.
        recipe: the resolved recipe.
        iterations: in order; the first is behavioural cloning.
        control: behavioural cloning continued for as many steps; None without one.
        seconds: wall time of each part of the run.
        versions: of Python and the packages, see `installed_versions`.
        machine: what it ran on, see `describe_machine`.
    """

    name: str
    seed: int
    recipe: Mapping[str, Any]
    iterations: Sequence[Iteration]
    control: Iteration | None
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]

    @property
    def method(self) -> str:
        """What taught the model: the class that the recipe names; behavioural cloning where nothing else was done."""
        name = (self.recipe.get("module") or Recipe.module).rpartition(".")[2]
        if len(self.iterations) > 1:
            return name
        plain = (Recipe.module.rpartition(".")[2], "BehavioralCloning", "AgentModule")
        return "Behavioural cloning" if name in plain else f"Behavioural cloning by {name}"

    @property
    def comparisons(self) -> list[Pairing]:
        """The last iteration against iteration 0 and against the control, where there are such, by success."""
        return [found for found in self._compared if isinstance(found, Pairing)]

    @cached_property
    def _compared(self) -> list[Pairing | DataError]:
        """The comparisons, or why there is none."""
        first, last = self.iterations[0], self.iterations[-1]
        baselines = {f"iteration {first.iteration}": first} if last is not first else {}
        baselines |= {"control": self.control} if self.control is not None else {}
        found: list[Pairing | DataError] = []
        for name, baseline in baselines.items():
            names = (name, f"iteration {last.iteration}")
            try:
                found.append(pair(baseline.played, last.played, names=names, by="success"))
            except DataError as error:
                found.append(error)
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the whole report in types that JSON has. Shares are between 0 and 1."""
        return {
            "kind": "fit",
            "name": self.name,
            "seed": self.seed,
            "method": self.method,
            "recipe": dict(self.recipe),
            "iterations": [iteration.to_json() for iteration in self.iterations],
            "control": None if self.control is None else self.control.to_json(),
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "lines": self.lines(),
            "why": self.why(),
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
        }

    def rows(self) -> dict[str, Played]:
        """What the table shows: the label of each row and its figures."""
        labels = {f"{i.iteration}" if i.iteration else "0 (BC)": i.played for i in self.iterations}
        return labels if self.control is None else {**labels, "control": self.control.played}

    def table(self) -> Table:
        """Returns the table for the terminal."""
        rows = {label: played.to_json() for label, played in self.rows().items()}
        return figures_table(rows, "success", title=f"{self.name}: {TITLE}")

    def lines(self) -> list[str]:
        """Says in plain words what the table means."""
        last = self.iterations[-1].played
        gains = [f"{_gain(c)} ({p_text(c.p_value)})" for c in self.comparisons]
        counts = f"{last.episodes} held-out tasks, coverage {last.finished}/{last.episodes}."
        said = [f"{self._subject()}: {', '.join(gains)}; {counts}" if gains else f"{self._subject()}: {counts}"]
        said += [
            f"Compared with {c.baseline} on the {c.tasks} tasks that both finished."
            for c in self.comparisons
            if c.tasks < last.episodes
        ]
        said += [f"Not compared: {found}." for found in self._compared if isinstance(found, DataError)]
        said += [line for label, played in self.rows().items() for line in _unfinished(label, played)]
        return said + warnings(self._looked_at(), LEARNED)

    def _looked_at(self) -> dict[str, Answers]:
        found: dict[str, Answers] = {}
        for row in self.iterations:
            if row.explored is not None:
                found[f"exploration {row.iteration}"] = row.explored.answers
            found |= looked_at(f"iteration {row.iteration}", row.played)
        return found if self.control is None else found | looked_at("the control", self.control.played)

    def why(self) -> list[str]:
        """Says why tasks were not solved."""
        return why_lines(self._told())

    def _told(self) -> dict[str, Told]:
        """What there is to tell of each measurement and each exploration, in the order of the run."""
        told: dict[str, Told] = {}
        for row in self.iterations:
            if row.explored is not None:
                told[f"exploration {row.iteration}"] = Told(row.explored.answers, row.explored.ends)
            told[f"iteration {row.iteration}"] = Told(row.played.answers, row.played.ends)
        if self.control is not None:
            told["control"] = Told(self.control.played.answers, self.control.played.ends)
        return told

    def write(self, folder: Path) -> None:
        """Writes report.json and report.md into a folder, each whole or not at all.

        Raises:
            RunError: they cannot be written.
        """
        write_report(folder, self.to_json(), self.markdown())

    def markdown(self) -> str:
        """Returns report.md."""
        rows = {label: played.to_json() for label, played in self.rows().items()}
        parts = [
            f"# {self.name}",
            "\n\n".join(self.lines()),
            "## Success on held-out tasks, %",
            figures_markdown(rows, "success"),
            "In brackets 95 % intervals: Wilson's for an environment; for the macro average, in which each environment "
            "weighs the same, they are combined by the method of variance estimates recovery.",
            "## Exploration and learning",
            markdown_table(["iteration", *_WORK], self._work()),
        ]
        for comparison in self.comparisons:
            title = f"## {comparison.candidate.capitalize()} against {comparison.baseline}"
            parts += [title, pairs_markdown(comparison)]
        if self.comparisons:
            parts.append(TESTED)
        parts += why_markdown("played", self._told())
        return "\n\n".join(parts) + "\n"

    def __rich__(self) -> RenderableType:
        """What `console.print(report)` shows: the table and the words."""
        return Group(self.table(), *(Text(line) for line in [*self.lines(), *self.why()]))

    def _subject(self) -> str:
        last = self.iterations[-1].iteration
        return f"{self.method} after {last} iteration{'s' if last > 1 else ''}" if last else self.method

    def _work(self) -> list[list[str]]:
        named = [(f"{iteration.iteration}", iteration) for iteration in self.iterations]
        if self.control is not None:
            named.append(("control", self.control))
        rows = []
        for label, iteration in named:
            facts = {**(asdict(iteration.explored) if iteration.explored else {}), **asdict(iteration.learned)}
            rows.append([label, *(f"{facts[key]:,}" if key in facts else "" for key in _WORK.values())])
        return rows


def write_report(folder: Path, report: Mapping[str, Any], markdown: str) -> None:
    """Writes report.json and report.md into a folder, each whole or not at all.

    Raises:
        RunError: they cannot be written.
    """
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "report.json", f"{text}\n".encode())
    write_atomically(folder / "report.md", markdown.encode())


_WORK = {
    "tried": "tried",
    "finished": "finished",
    "errored": "errored",
    "succeeded": "succeeded",
    "kept": "kept",
    "newly solved": "newly_solved",
    "steps": "steps",
    "tokens": "tokens",
    "trajectories": "trajectories",
}


def _gain(comparison: Pairing) -> str:
    """Says how much better the candidate is, as in "+31.2 points over BC"."""
    baseline = _BASELINES.get(comparison.baseline, comparison.baseline)
    if comparison.difference is None:
        return f"no figure against {baseline}, for in some environment no task was finished by both"
    side = "over" if comparison.difference >= 0 else "against"
    return f"{points(comparison.difference)} points {side} {baseline}"


_BASELINES = {
    "iteration 0": "BC",
    "control": "the control that learned from the expert set for as many steps",
}


def _unfinished(label: str, played: Played) -> list[str]:
    """Names the tasks that count for nothing, if there are any."""
    errored = {name: part.errored for name, part in played.environments.items() if part.errored}
    if not errored:
        return []
    where = ", ".join(f"{name} {number}" for name, number in errored.items())
    name = label if label == "control" else f"iteration {label}"
    return [
        f"{sum(errored.values())} of {played.episodes} tasks did not finish in {name} ({where}) and are not counted."
    ]


def installed_versions() -> dict[str, str]:
    """The versions of Python, and of those packages that decide what a run does which are installed."""
    versions = {"python": platform.python_version()}
    worlds = {package for name in environments() for package in get_spec(name).packages}
    for package in [*PACKAGES, *sorted(worlds)]:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_machine(accelerators: Sequence[str] = ()) -> dict[str, Any]:
    """What the run ran on, without any name or path.

    Args:
        accelerators: the names of the devices that were used besides the CPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cores,
        "accelerators": list(accelerators),
    }
