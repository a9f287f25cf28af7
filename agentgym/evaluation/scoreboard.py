"""The report of `agentgym eval`: one row a player, and players against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentgym.errors import DataError
from agentgym.evaluation.answers import HERE, Asked, warnings
from agentgym.evaluation.pairs import Pairing, pair
from agentgym.evaluation.players import Figures, Played
from agentgym.evaluation.report import write_report
from agentgym.evaluation.tables import (
    TESTED,
    figures_markdown,
    figures_table,
    markdown_table,
    number_text,
    pairs_markdown,
    percent,
)
from agentgym.evaluation.why import Told, looked_at, why_lines, why_markdown
from agentgym.manner import Manner
from agentgym.settings import Prompt

TITLE = "% of what can be had, each environment by its metric"
"""What stands above the table."""

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
            **self.played.to_json(),
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

    @property
    def comparisons(self) -> list[Pairing]:
        """Every player against each before it, where that is possible; the last ones come first."""
        return [found for found in self._compared if isinstance(found, Pairing)]

    @cached_property
    def _compared(self) -> list[Pairing | DataError]:
        """The comparisons, or why there is none."""
        found: list[Pairing | DataError] = []
        for n, new in reversed([*enumerate(self.players)]):
            for old in reversed(self.players[:n]):
                try:
                    found.append(pair(old.played, new.played, names=(old.name, new.name)))
                except DataError as error:
                    found.append(error)
        return found

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
            "why": self.why(),
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
        }

    def table(self) -> Table:
        """Returns the table for the terminal."""
        return figures_table(self.rows(), "headline", title=f"{self.name}: {TITLE}")

    def rows(self) -> dict[str, dict[str, Any]]:
        """What the table shows: each player's name and figures."""
        return {player.name: player.played.to_json() for player in self.players}

    def lines(self) -> list[str]:
        """Says in plain words who was better, and then what was measured."""
        said = [comparison.words() for comparison in self.comparisons]
        said += [f"Not compared: {found}." for found in self._compared if isinstance(found, DataError)]
        said += [line for player in self.players for line in _coverage(player)]
        return said + [line for player in self.players for line in self._warnings(player)]

    def _warnings(self, player: Player) -> list[str]:
        served = player.name == self.recipe.get("model", {}).get("name")  # other players are who their names say
        full = player.manner.prompt == Prompt.full
        asked = Asked.by(self.recipe) if served else HERE
        asked = replace(asked, learned=player.taught, own=player.taught, full=full)
        return warnings(looked_at(player.name, player.played), asked)

    def why(self) -> list[str]:
        """Says why tasks were not solved."""
        return why_lines(self._told())

    def _told(self) -> dict[str, Told]:
        return {player.name: Told(player.played.answers, player.played.ends) for player in self.players}

    def markdown(self) -> str:
        """Returns report.md."""
        table = figures_markdown(self.rows(), "headline")
        parts = [f"# {self.name}", _EXPLAINED, table, "\n\n".join(self.lines())]
        for player in self.players:
            parts += [f"## {player.name}", f"Measured with {player.manner}.", _details(player.played)]
            if any(figures.types for figures in player.played.environments.values()):
                parts += ["By type of task:", _types(player.played)]
        for comparison in self.comparisons:
            parts += [f"## {comparison.candidate} against {comparison.baseline}", pairs_markdown(comparison)]
        if self.comparisons:
            parts.append(TESTED)
        parts += why_markdown("player", self._told())
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Writes report.json and report.md into a folder, each whole or not at all.

        Raises:
            RunError: they cannot be written.
        """
        write_report(folder, self.to_json(), self.markdown())

    def __rich__(self) -> RenderableType:
        """What `console.print(report)` shows: the table and the words."""
        return Group(self.table(), *(Text(line) for line in [*self.lines(), *self.why()]))


def _coverage(player: Player) -> list[str]:
    parts = player.played.environments
    episodes, tasks = player.played.episodes, sum(part.tasks for part in parts.values())
    tries = "" if episodes == tasks else f", {episodes} episodes"
    said = [f"{player.name}: {tasks} held-out tasks{tries}, coverage {player.played.finished}/{episodes}."]
    if player.taught:
        other = "eval.manner=recipe measures it as the recipe says"
        said.append(f"{player.name} is measured as it was taught ({player.manner}); {other}.")
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
        percent(figures.success, figures.success_interval),
        "?"
        if figures.score is None
        else f"{number_text(figures.score, 3)} [{number_text(low, 3)} to {number_text(high, 3)}]",
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
