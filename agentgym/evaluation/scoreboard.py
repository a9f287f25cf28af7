"""The report of `agentgym eval`: one row a player, and players against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentgym.evaluation.pairs import Pair, Pairing, pair
from agentgym.evaluation.players import EnvironmentFigures, Figures, Macro, Played
from agentgym.evaluation.report import COLUMNS, markdown_table, p_text, write_report
from agentgym.evaluation.statistics import Interval
from agentgym.manner import Manner

_CELL = len("[38-57]")

_EXPLAINED = (
    "In per cent: the share of tasks solved or, where an environment's metric is the score, the mean score from 0 "
    "(before the first action) to 100 (the highest). In brackets 95 % intervals, of the environments and of their "
    "mean, in which each weighs the same. docs/evaluation.md has the formulas."
)


@dataclass(frozen=True, kw_only=True)
class Player:
    """One row.

    Attributes:
        name: as the recipe names it.
        manner: what it was told, and how it answered.
        taught: whether that is how it was taught, rather than what the recipe says.
        played: its figures.
        trajectories: its trajectory files, as names in the run's folder `trajectories`.
    """

    name: str
    manner: Manner
    taught: bool
    played: Played
    trajectories: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {
            "player": self.name,
            "manner": {**self.manner.to_json(), "from": "model" if self.taught else "recipe"},
            "samples": self.played.samples,
            "macro": self.played.macro.to_json(),
            "environments": {name: figures.to_json() for name, figures in self.played.environments.items()},
            "trajectories": list(self.trajectories),
        }


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """What a run of `agentgym eval` measured.

    Attributes:
        name: of the run.
        seed: of the run.
        recipe: the resolved recipe.
        players: in the recipe's order.
        seconds: wall time of each part of the run.
        versions: of Python and the packages.
        machine: what it ran on.
    """

    name: str
    seed: int
    recipe: Mapping[str, Any]
    players: Sequence[Player]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]

    @cached_property
    def comparisons(self) -> list[Pairing]:
        """Every player against each before it, where the two finished a task in common."""
        return [
            pair(old.played, new.played, names=(old.name, new.name))
            for old, new in combinations(self.players, 2)
            if old.played.outcomes.keys() & new.played.outcomes.keys()
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the whole report in types that JSON has. Shares are between 0 and 1."""
        return {
            "kind": "eval",
            "name": self.name,
            "seed": self.seed,
            "recipe": dict(self.recipe),
            "players": [player.to_json() for player in self.players],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "lines": self.lines(),
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
        }

    def table(self) -> Table:
        """Returns the table for the terminal."""
        rows = {player.name: player.played for player in self.players}
        return headline_table(rows, title=f"{self.name}: % of what can be had, each environment by its metric")

    def lines(self) -> list[str]:
        """Says in plain words what was measured, and who was better."""
        coverage = [line for player in self.players for line in _coverage(player)]
        return [*coverage, *(comparison.words() for comparison in self.comparisons)]

    def markdown(self) -> str:
        """Returns report.md."""
        header, *cells = _matrix({player.name: player.played for player in self.players}, between=" ")
        parts = [f"# {self.name}", _EXPLAINED, markdown_table(header, cells), "\n\n".join(self.lines())]
        for player in self.players:
            parts += [f"## {player.name}", f"Measured with {player.manner}.", _details(player.played)]
            if any(figures.types for figures in player.played.environments.values()):
                parts += ["By type of task:", _types(player.played)]
        for comparison in self.comparisons:
            parts += [f"## {comparison.candidate} against {comparison.baseline}", pairs_table(comparison)]
        if self.comparisons:
            parts.append(TESTED)
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Writes report.json and report.md into a folder, each whole or not at all.

        Raises:
            RunError: they cannot be written.
        """
        write_report(folder, self.to_json(), self.markdown())

    def __rich__(self) -> RenderableType:
        """What `console.print(report)` shows: the table and the words."""
        return Group(self.table(), *(Text(line) for line in self.lines()))


TESTED = (
    "Pairs of the same task, a task's tries averaged; points on the scale of the table above, with 95 % intervals. p "
    "is exact, two-sided, and adjusted for the number of environments (Holm): McNemar's where every difference is a "
    "whole success, else over all ways to flip the signs of the differences. Tasks that one of the two did not finish "
    "are left out."
)
"""What stands below tables of pairs."""


def headline_table(rows: Mapping[str, Played], *, title: str) -> Table:
    """Returns a table of headline figures for the terminal: in per cent, 95 % limits below.

    Args:
        rows: the players by name.
        title: stands above the table.
    """
    header, *cells = _matrix(rows, between="\n")
    if 1 + sum(max(len(name), _CELL) + 3 for name in header) > COLUMNS:
        header, *cells = [list(column) for column in zip(header, *cells, strict=True)]
    return terminal_table(header, cells, title=title)


def terminal_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> Table:
    """Returns a table for the terminal; where it is too wide it folds its texts and cuts no number short."""
    table = Table(title=Text(title), title_justify="left", show_lines=True)
    for i, name in enumerate(header):
        cells = [name, *(row[i] for row in rows)] if i else [name]
        widest = max(len(line) for cell in cells for line in cell.splitlines() or [""])
        table.add_column(Text(name), justify="right" if i else "left", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


PAIRS_HEADER = ("environment", "pairs", "won", "lost", "points", "p", "verdict")


def pairs_rows(comparison: Pairing, between: str = " ") -> list[list[str]]:
    """The rows of a table of pairs, below `PAIRS_HEADER`: one an environment, and one for all."""
    rows = [
        _pair_row(_titled(name, part.metric), part, str(part.verdict), between)
        for name, part in comparison.environments.items()
    ]
    return [*rows, _pair_row("all", comparison, "", between)]


def pairs_table(comparison: Pairing) -> str:
    """The same as Markdown."""
    return markdown_table(PAIRS_HEADER, pairs_rows(comparison))


def _pair_row(name: str, part: Pair | Pairing, verdict: str, between: str) -> list[str]:
    low, high = part.interval
    points = "?" if part.difference is None else f"{100 * part.difference:+.1f}"
    if part.difference is not None:
        points += f"{between}[{100 * low:+.0f} to {100 * high:+.0f}]"
    p = p_text(part.p_value).removeprefix("p ").removeprefix("= ")
    return [name, f"{part.tasks}/{part.given}", f"{part.won}", f"{part.lost}", points, p, verdict]


def _titled(name: str, metric: str) -> str:
    return name if metric == "success" else f"{name} (score)"


def _matrix(rows: Mapping[str, Played], between: str) -> list[list[str]]:
    environments = sorted({name for played in rows.values() for name in played.environments})
    metrics = {name: part.metric for played in rows.values() for name, part in played.environments.items()}
    matrix = [["player", *(_titled(name, metrics[name]) for name in environments), "macro"]]
    for label, played in rows.items():
        cells = [headline_cell(played.environments.get(name), between) for name in environments]
        matrix.append([label, *cells, headline_cell(played.macro, between)])
    return matrix


def headline_cell(part: EnvironmentFigures | Macro | None, between: str) -> str:
    """A headline figure and its limits in per cent; a question mark where nothing was finished."""
    return "?" if part is None else _percent(part.headline, part.headline_interval, between)


def _percent(figure: float | None, interval: Interval, between: str = " ") -> str:
    if figure is None:
        return "?"
    low, high = (f"{100 * limit:.0f}" for limit in interval)
    return f"{100 * figure:.1f}{between}[{low}-{high}]".replace("--", " to -")


def _coverage(player: Player) -> list[str]:
    parts = player.played.environments
    episodes, finished = (sum(getattr(part, key) for part in parts.values()) for key in ("episodes", "finished"))
    tasks = sum(part.tasks for part in parts.values())
    tries = "" if episodes == tasks else f", {episodes} episodes"
    said = [f"{player.name}: {tasks} held-out tasks{tries}, coverage {finished}/{episodes}."]
    if player.taught:
        said.append(f"{player.name} is measured as it was taught ({player.manner}); eval.manner=recipe would insist.")
    errored = {name: part.errored for name, part in parts.items() if part.errored}
    if errored:
        where = ", ".join(f"{name} {count}" for name, count in errored.items())
        said.append(f"{sum(errored.values())} episodes of {player.name} did not finish ({where}) and are not counted.")
    return said


def _details(played: Played) -> str:
    most = played.samples
    several = [f"pass@{most}", f"pass^{most}"] if most > 1 else []
    rows = [
        [name, *_row(figures), *_passes(figures, most), figures.metric] for name, figures in played.environments.items()
    ]
    return markdown_table(["environment", *_COLUMNS, *several, "metric"], rows)


_COLUMNS = ("tasks", "episodes", "errored", "success, %", "score", "turns")


def _row(figures: Figures) -> list[str]:
    low, high = figures.score_interval
    return [
        *(f"{getattr(figures, key)}" for key in ("tasks", "episodes", "errored")),
        _percent(figures.success, figures.success_interval),
        "?" if figures.score is None else f"{figures.score:.3f} [{low:.3f} to {high:.3f}]",
        "?" if figures.turns is None else f"{figures.turns:.1f}",
    ]


def _passes(figures: Figures, most: int) -> list[str]:
    if most < 2:
        return []
    shares = (figures.pass_at_k.get(most), figures.pass_hat_k.get(most))
    return ["?" if share is None else f"{100 * share:.1f}" for share in shares]


def _types(played: Played) -> str:
    rows = [
        [f"{name}, {part.task_type} {kind}", *_row(figures)]
        for name, part in played.environments.items()
        for kind, figures in part.types.items()
    ]
    return markdown_table(["type", *_COLUMNS], rows)
