"""Playing without learning: measure a player on the benchmark, or collect trajectories."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from agentgym import progress
from agentgym.data import store
from agentgym.evaluation.agenteval import Result, summarize
from agentgym.evaluation.report import describe_machine, installed_versions, results_table
from agentgym.play import PlayJob, tasks_of
from agentgym.runfolder import RunFolder
from agentgym.settings import Recipe
from agentgym.workers import Workers
from envpool import Split, get_spec


def evaluate(recipe: Recipe) -> Result:
    """Measures the recipe's model, or `expert` or `random`, on its evaluation tasks; prints and writes the result.

    Raises:
        AgentGymError: one line (or one a complaint) with a cure.
    """
    progress.quiet()
    folder = RunFolder(recipe)
    progress.header(folder.path, recipe.seed)
    job = _job(recipe, Split.EVAL, folder.trajectories("eval"))
    with Workers(recipe, folder) as workers:
        played = workers.play(job, f"measuring {recipe.model.name}")
    result = summarize(played, {name: get_spec(name).score_range for name in recipe.environments})
    report = {
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe": asdict(recipe),
        "model": recipe.model.name,
        "macro": {"success": result.macro.success, "score": result.macro.score},
        "environments": {name: asdict(part) for name, part in result.environments.items()},
        "seconds": folder.seconds(),
        "versions": installed_versions(),
        "machine": describe_machine(),
    }
    store.write_atomically(folder.path / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    progress.show(results_table({recipe.model.name: result}, title=f"{recipe.name}: % of held-out tasks solved"))
    progress.show(f"{result.tasks} held-out tasks, coverage {result.finished}/{result.tasks}.")
    return result


def collect(recipe: Recipe, split: Split, to: Path | None = None) -> Path:
    """Plays the recipe's tasks of a split with its model, or `expert` or `random`, and writes the trajectories.

    Args:
        recipe: the recipe.
        split: which tasks.
        to: the trajectory file; one in the run folder if None.

    Returns:
        The trajectory file.

    Raises:
        AgentGymError: one line (or one a complaint) with a cure.
    """
    progress.quiet()
    folder = RunFolder(recipe)
    out = to or folder.trajectories(f"collected-{split}")
    with Workers(recipe, folder) as workers:
        played = workers.play(_job(recipe, split, out), f"collecting with {recipe.model.name}")
    progress.show(f"{len(played)} trajectories, {sum(bool(t.success) for t in played)} of them solved, in {out}")
    return out


def _job(recipe: Recipe, split: Split, out: Path) -> PlayJob:
    return PlayJob(
        model=recipe.model.name,
        tasks=tuple(tasks_of(recipe, split)),
        sample=0,
        temperature=0.0 if split is Split.EVAL else recipe.evol.temperature,
        top_p=recipe.evol.top_p,
        seed=recipe.seed,
        iteration=0,
        phase=store.Phase.EVAL if split is Split.EVAL else store.Phase.EXPLORE,
        out=out,
    )
