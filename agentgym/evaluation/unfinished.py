"""The report of a run that is not finished: from the files that its finished phases left."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path

from agentgym.data import store
from agentgym.devices import device_names
from agentgym.errors import RunError
from agentgym.evaluation.players import Played, measure
from agentgym.evaluation.reading import learned, read_json
from agentgym.evaluation.report import Explored, Iteration, Learned, Report, describe_machine, installed_versions
from agentgym.events import seconds_by_part
from agentgym.foreign import cards_of_run
from agentgym.recipe import read_recipe
from agentgym.settings import Recipe
from envpool import Task

_MOST_BYTES = 1_000_000
_GO_ON = "go on with the run first, by the command that started it"


def unfinished_report(folder: Path, *, trust: bool = False) -> Report:
    """Builds the report of the iterations that were measured so far.

    Args:
        folder: the folder of a run of `fit`.
        trust: whether the modules that its recipe names are imported.

    Raises:
        AgentGymError: nothing was measured yet, or a file of the run is missing or damaged.
    """
    recipe = read_recipe(folder / "recipe.yaml")
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
                played=_played(folder, number, recipe, trust=trust),
                learned=_learned(folder / f"it{number:03d}" / "done.json"),
                explored=_explored(folder, number, solved) if number else None,
            )
            for number in measured
        ],
        control=None,  # it is measured last: with it the run is finished
        seconds=seconds_by_part(folder),
        versions=installed_versions(),
        machine=describe_machine(device_names(recipe.trainer, recipe.pool.workers)),
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


def _played(folder: Path, number: int, recipe: Recipe, *, trust: bool) -> Played:
    trajectories = store.read([_measured(folder, number)])
    names = sorted({trajectory.task.environment for trajectory in trajectories})
    return measure(trajectories, cards_of_run(names, recipe, folder, trust=trust))


def _learned(path: Path) -> Learned:
    try:
        return learned(read_json(path, _MOST_BYTES, _GO_ON))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); {_GO_ON}") from error


def _explored(folder: Path, number: int, solved: set[Task]) -> Explored:
    """What an iteration's exploration brought; adds the tasks that it solved to `solved`."""
    files = folder / "trajectories"
    played = store.read(sorted(files.glob(f"it{number:03d}-explore-*.parquet")))
    succeeded = [trajectory.task for trajectory in played if trajectory.success]
    new = set(succeeded) - solved
    solved |= new
    kept = len(store.read([files / f"it{number:03d}-kept.parquet"]))
    return Explored.of(played, kept=kept, newly_solved=len(new))
