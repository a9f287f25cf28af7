"""The report of a run that is not finished: from the files that its finished phases left."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from itertools import count, takewhile
from pathlib import Path

from agentgym.data import store
from agentgym.errors import RunError
from agentgym.evaluation.players import Played, measure
from agentgym.evaluation.report import Explored, Iteration, Learned, Report, describe_machine, installed_versions
from agentgym.events import seconds_by_part
from agentgym.recipe import load_recipe
from agentgym.settings import Recipe
from envpool import Task, get_spec

_GO_ON = "go on with the run first, by the command that started it"


def unfinished_report(folder: Path) -> Report:
    """Builds the report of the iterations that were measured so far.

    Args:
        folder: the folder of a run of `fit`.

    Raises:
        AgentGymError: nothing was measured yet, or a file of the run is missing or damaged.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    measured = list(takewhile(lambda n: _measured(folder, n).exists(), count()))
    if not measured:
        refuse_evaluation(folder)
        raise RunError(f"{folder} has no report, and nothing of it has been measured: {_GO_ON}")
    solved: set[Task] = set()
    return Report(
        name=recipe.name,
        seed=recipe.seed,
        recipe=asdict(recipe),
        iterations=[
            Iteration(
                iteration=number,
                played=_played(_measured(folder, number), recipe),
                learned=_learned(folder / f"it{number:03d}" / "done.json"),
                explored=_explored(folder, number, solved) if number else None,
            )
            for number in measured
        ],
        control=None,  # it is measured last: with it the run is finished
        seconds=seconds_by_part(folder),
        versions=installed_versions(),
        machine=describe_machine(),
    )


def refuse_evaluation(folder: Path) -> None:
    """Makes sure that a run without a report is no evaluation, which has figures once it is finished.

    Raises:
        RunError: it is one.
    """
    if any((folder / "trajectories").glob("eval-*")):
        raise RunError(f"the evaluation {folder} is not finished and has no report yet: {_GO_ON}")


def _measured(folder: Path, number: int) -> Path:
    return folder / "trajectories" / f"it{number:03d}-eval.parquet"


def _played(path: Path, recipe: Recipe) -> Played:
    return measure(store.read([path]), {name: get_spec(name) for name in recipe.environments})


def _learned(path: Path) -> Learned:
    try:
        done = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}; {_GO_ON}") from error
    return Learned(**{field.name: done[field.name] for field in fields(Learned)})


def _explored(folder: Path, number: int, solved: set[Task]) -> Explored:
    """What an iteration's exploration brought; adds the tasks that it solved to `solved`."""
    files = folder / "trajectories"
    played = store.read(sorted(files.glob(f"it{number:03d}-explore-*.parquet")))
    succeeded = [trajectory.task for trajectory in played if trajectory.success]
    new = set(succeeded) - solved
    solved |= new
    kept = len(store.read([files / f"it{number:03d}-kept.parquet"]))
    return Explored.of(played, kept=kept, newly_solved=len(new))
