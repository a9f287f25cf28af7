"""Runs against each other, from what lies in their folders: `agentgym compare` and `agentgym transfer`.

A run is named by its folder; after a colon may stand what of it is meant: an iteration of a fit (``runs/a:3``), its
control (``runs/a:control``), or a player of an evaluation (``runs/agenteval:random``). Somebody else may have made the
folder: modules that its recipe names are imported only if the user trusts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym import progress
from agentgym.data import store
from agentgym.errors import DataError, RunError
from agentgym.evaluation.pairs import Pairing, pair
from agentgym.evaluation.players import Played, measure
from agentgym.evaluation.reading import read_report
from agentgym.evaluation.tables import PAIRS_HEADER, figure_cell, p_text, pairs_rows, terminal_table
from agentgym.evaluation.unfinished import refuse_evaluation
from agentgym.foreign import cards_of_run
from agentgym.numbering import spec_of
from agentgym.recipe import read_recipe
from agentgym.settings import EnvironmentSettings, Recipe
from envpool.errors import did_you_mean
from envpool.options import mark_of

CONTROL = "control"
_GO_ON = "finish it first, by the command that started it"


@dataclass(frozen=True, slots=True)
class Measured:
    """One player of one run, as its trajectory files tell.

    Attributes:
        name: how it is called in tables and words.
        recipe: of the run.
        trained_on: the environments that the model learned from; None if no run that taught it is known.
        played: its figures.
    """

    name: str
    recipe: Recipe
    trained_on: frozenset[str] | None
    played: Played


def compare(baseline: str, candidate: str, iteration: int | None = None, *, trust: bool = False) -> Pairing:
    """Says whether one run is better than another on the tasks that both played; prints a table and the words.

    Args:
        baseline: the run to beat.
        candidate: the run that should be better.
        iteration: which iteration of fits, where the name of the run does not say; the last one measured if None.
        trust: whether the modules that the runs' recipes name are imported.

    Raises:
        AgentGymError: one line with a cure: a run is not there or not measured, the versions of an environment
            differ, or there is no common task.
    """
    old, new = (read_run(run, iteration, trust=trust) for run in (baseline, candidate))
    pairing = pair(old.played, new.played, names=(old.name, new.name))
    title = f"{new.name} against {old.name}: points are % of what can be had"
    progress.show(terminal_table(PAIRS_HEADER, pairs_rows(pairing, between="\n"), title=title))
    progress.show(pairing.words())
    for line in _other_rules(old, new, list(pairing.environments)):
        progress.show(line)
    return pairing


def transfer(runs: Sequence[str], baseline: str | None = None, *, trust: bool = False) -> list[list[str]]:
    """Shows how models that learned in some environments do in others; prints the table and returns its cells.

    Args:
        runs: one row each; of an evaluation with several players each player is one.
        baseline: what every cell is compared with.
        trust: as of `compare`.

    Raises:
        AgentGymError: as `compare`.
    """
    base = read_run(baseline, trust=trust) if baseline is not None else None
    every = [measured for run in runs for measured in read_players(run, trust=trust)]
    rows = [measured for measured in every if base is None or measured.name != base.name]
    if not rows:
        raise RunError(f"there is only the baseline, {baseline}: name another run, or another player of that one")
    columns = sorted({name for row in rows for name in row.played.environments})
    _refuse_mixed(rows, columns)
    header = ["learned from", *columns]
    cells = [[_learned_from(row), *_cells(row, columns, base)] for row in rows]
    if base is not None:
        cells.append([f"baseline: {base.name}", *_cells(base, columns, None)])
    progress.show(terminal_table(header, cells, title="% of what can be had [95 % interval]; * was learned from"))
    if base is not None:
        progress.show(
            f"Points against {base.name} on the tasks that both finished (how many, where not all); p is exact, "
            "adjusted for the environments of the row."
        )
    return [header, *cells]


def read_run(run: str, iteration: int | None = None, *, trust: bool = False) -> Measured:
    """Reads the player that a run's name stands for.

    Raises:
        RunError: there is no such run, it was not measured, or it holds several players and none is named.
    """
    found = read_players(run, iteration, trust=trust)
    if len(found) > 1:
        names = [player.name for player in found]
        raise RunError(f"{run} holds {len(names)} players: name one of them, {' or '.join(names)}")
    return found[0]


def read_players(run: str, iteration: int | None = None, *, trust: bool = False) -> list[Measured]:
    """Reads all players that a run's name stands for.

    Raises:
        RunError: there is no such run, or it was not measured.
        DataError: a trajectory file is damaged.
    """
    folder, which = _parse(run)
    recipe = read_recipe(folder / "recipe.yaml")
    report = folder / "report.json"
    players = read_report(report, _files) if report.exists() else {}
    if players:
        return _players(folder, which, recipe, players, trust=trust)
    refuse_evaluation(folder)
    return [_fitted(folder, which, recipe, iteration, trust=trust)]


def _parse(run: str) -> tuple[Path, str | None]:
    """Folder and what stands after it. Names of players may hold colons themselves."""
    if _is_run(Path(run)):
        return Path(run), None
    for colon in re.finditer(":", run):
        if _is_run(Path(run[: colon.start()])):
            return Path(run[: colon.start()]), run[colon.end() :]
    path = Path(run.partition(":")[0])
    near = [str(file.parent) for file in path.parent.glob("*/recipe.yaml")]
    raise RunError(f"{run!r} is no run folder{did_you_mean(str(path), near)}: name one, as in runs/agentevol")


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.yaml").is_file()


def _files(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """The trajectory files of each player of an evaluation; none for a fit."""
    found: dict[str, list[str]] = {}
    for player in report["players"] if report.get("kind") == "eval" else ():
        name, files = player["player"], player["trajectories"]
        if not isinstance(name, str) or not isinstance(files, list):
            raise ValueError("a player has no name or no trajectory files")
        for file in files:
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError(f"{file!r:.80} is no trajectory file of the run")
        found[name] = files
    return found


def _players(
    folder: Path, which: str | None, recipe: Recipe, players: Mapping[str, Sequence[str]], *, trust: bool
) -> list[Measured]:
    if which is not None and which not in players:
        raise RunError(
            f"{folder} holds no player {which!r}{did_you_mean(which, players)} (it holds: {', '.join(players)})"
        )
    return [
        Measured(
            name=f"{folder}:{player}" if len(players) > 1 else f"{folder}",
            recipe=recipe,
            trained_on=_taught_by(Path(player)),
            played=_played(folder, recipe, [folder / "trajectories" / name for name in files], trust=trust),
        )
        for player, files in players.items()
        if which in (None, player)
    ]


def _fitted(folder: Path, which: str | None, recipe: Recipe, iteration: int | None, *, trust: bool) -> Measured:
    paths = sorted((folder / "trajectories").glob("it[0-9][0-9][0-9]-eval.parquet"))
    files = {str(int(path.stem[2:5])): path for path in paths}
    if not files:
        raise RunError(f"{folder} has not measured anything yet: {_GO_ON}")
    if which is None:
        which = str(iteration) if iteration is not None else max(files, key=int)
    control = folder / "trajectories" / "control-eval.parquet"
    if control.exists():
        files[CONTROL] = control
    if which not in files:
        raise RunError(f"{folder} has no iteration {which!r} (it has: {', '.join(files)})")
    name = f"{folder}, {which if which == CONTROL else f'iteration {which}'}"
    trained_on = _trained_on(folder, recipe, explored=which not in ("0", CONTROL))
    played = _played(folder, recipe, [files[which]], trust=trust)
    return Measured(name=name, recipe=recipe, trained_on=trained_on, played=played)


def _played(folder: Path, recipe: Recipe, files: Sequence[Path], *, trust: bool) -> Played:
    trajectories = store.read(files)
    names = sorted({trajectory.task.environment for trajectory in trajectories})
    return measure(trajectories, cards_of_run(names, recipe, folder, trust=trust))


def _taught_by(model: Path) -> frozenset[str] | None:
    """What the run learned from in whose folder a model lies, as in ``runs/a/it003/model``."""
    for folder in model.parents:
        if _is_run(folder):
            inside = model.relative_to(folder).parts
            explored = inside[0] not in ("it000", "base", CONTROL)
            return (
                frozenset()
                if inside[0] == "base"
                else _trained_on(folder, read_recipe(folder / "recipe.yaml"), explored=explored)
            )
    return None


def _trained_on(folder: Path, recipe: Recipe, *, explored: bool) -> frozenset[str]:
    expert = folder / "trajectories" / "expert.parquet"
    shown = {trajectory.task.environment for trajectory in store.read([expert])} if expert.exists() else set()
    tried = {name for name, settings in recipe.environments.items() if settings.explore and explored}
    return frozenset(shown | tried)


def _other_rules(old: Measured, new: Measured, names: Sequence[str]) -> list[str]:
    """Says where the two played by other turn limits."""
    lines = []
    for name in names:
        limits = [side.recipe.environments.get(name, EnvironmentSettings()).max_turns for side in (old, new)]
        if limits[0] != limits[1]:
            own = [spec_of(side.recipe, name).max_turns for side in (old, new)]
            a, b = (turns if limit is None else limit for turns, limit in zip(own, limits, strict=True))
            lines.append(f"{name} was played with {a} turns by {old.name} and with {b} by {new.name}.")
    return lines


def _learned_from(row: Measured) -> str:
    if row.trained_on is None:
        return row.name
    return f"{' + '.join(sorted(row.trained_on)) or 'nothing'} ({row.name})"


def _refuse_mixed(rows: Sequence[Measured], columns: Sequence[str]) -> None:
    """Makes sure that a column holds figures of one environment, and not of its own data and of other data."""
    for name in columns:
        first, *others = [row for row in rows if name in row.played.environments]
        for other in others:
            here, there = (set(map(mark_of, row.played.environments[name].versions)) for row in (first, other))
            if here != there:
                raise DataError(
                    f"{name} was played with other options or data by {first.name} than by {other.name}: "
                    "their numbers cannot be compared, name runs of one of the two"
                )


def _cells(row: Measured, columns: Sequence[str], base: Measured | None) -> list[str]:
    pairing = pair(base.played, row.played, names=(base.name, row.name)) if base is not None else None
    cells = []
    for name in columns:
        figures = row.played.environments.get(name)
        lines = ["-"] if figures is None else [figure_cell(figures.to_json(), "headline", "\n")]
        if row.trained_on is not None and name in row.trained_on and lines != ["-"]:
            lines[0] = lines[0].replace("\n", "*\n", 1)
        part = pairing.environments.get(name) if pairing is not None else None
        if part is not None and part.difference is not None:
            whole = "" if part.tasks == part.given else f" ({part.tasks}/{part.given})"
            lines += [f"{100 * part.difference:+.1f}{whole}", p_text(part.p_value)]
        cells.append("\n".join(lines))
    return cells
