"""The expert set: what the environments' experts did, and what the trajectory files of a recipe hold to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgym import progress
from agentgym.data import store
from agentgym.data.imports import QUARANTINE, check_any, import_files, write_quarantine
from agentgym.data.prompts import data_prompts
from agentgym.data.rows import MEASURED, is_double, same_episode
from agentgym.data.sources import complaint_about, find
from agentgym.errors import DataError
from agentgym.evaluation.ends import check_any_finished, counted, ends_of, has_score
from agentgym.itemids import other_options
from agentgym.numbering import spec_of
from agentgym.play import environment_pool, tasks_of
from agentgym.runfolder import RunFolder
from agentgym.settings import Recipe
from envpool import ExpertPolicy, Split, Trajectory
from envpool import collect as play_in_pool


def expert_set(recipe: Recipe, folder: RunFolder) -> Path:
    """Writes the expert set: what the environments' experts did, and the trajectory files of the recipe."""
    out = folder.trajectories("expert")
    tasks = tasks_of(recipe, Split.TRAIN)
    with folder.timed("expert"), progress.phase("collecting expert trajectories", len(tasks), unit="episodes") as bar:
        pool = environment_pool(recipe, here=True)
        played = play_in_pool(pool, tasks, ExpertPolicy(), on_trajectory=lambda _: bar.advance())
    check_any_finished({"collecting expert trajectories": ends_of(played)})
    expert = [t for t in played if t.success]
    unsolved = _unsolved(played)
    if unsolved:
        progress.show(unsolved)
    for note in data_prompts(recipe).notes:
        progress.show(note)
    for file in recipe.data:
        read = read_data(file, folder.path / QUARANTINE)
        check_versions(recipe, file, read)
        expert += read
    if not expert:
        why = f" ({unsolved})" if unsolved else ""
        raise DataError(f"the expert set is empty: no expert succeeded and no file of `data` holds a trajectory{why}")
    store.write(out, expert, iteration=0, phase=store.Phase.EXPERT)
    return out


def _unsolved(played: Sequence[Trajectory]) -> str:
    """How many episodes of the experts are left out, and why, in one line; empty if none is."""
    parts = []
    for name in sorted({t.task.environment for t in played}):
        here = [t for t in played if t.task.environment == name and not t.success]
        errors = sum(not has_score(t) for t in here)
        failed = f", {errors} of them failed: {counted(ends_of(here).causes)}" if errors else ""
        if here:
            parts.append(f"{name} {len(here)}{failed}")
    if not parts:
        return ""
    count = sum(not t.success for t in played)
    return f"{count} of {len(played)} expert episodes did not succeed and are left out ({'; '.join(parts)})"


def check_versions(recipe: Recipe, source: str, episodes: Sequence[Trajectory]) -> None:
    """Makes sure that trajectories to learn from are of the tasks that a recipe plays, and not of other data.

    Args:
        recipe: the recipe.
        source: where they are from.
        episodes: the trajectories.

    Raises:
        DataError: an environment of the recipe was played with other options.
    """
    for name in recipe.environments:
        here = spec_of(recipe, name).version
        others = [t.version for t in episodes if t.task.environment == name and other_options(name, t.version)]
        if others:
            raise DataError(
                f"{source}: {len(others)} trajectories of {name} are of version {others[0]}, and this recipe plays "
                f"version {here}, other tasks: leave them out, or give environments.{name}.options that they were "
                "played with"
            )


def read_data(source: str, quarantine: Path | None = None) -> list[Trajectory]:
    """Reads what there is to learn from in a source of trajectories.

    That is not what was played to measure, nor what did not succeed; and what was explored and kept is there once.

    Args:
        source: a file, a folder, or a data set on the Hub.
        quarantine: quarantine file for the records that are set aside; if given, everything left out is reported.

    Raises:
        DataError: a file cannot be read, or no record of the source is sound.
    """
    others: list[Path] = []
    imported = import_files(find(source, others.append))
    check_any(imported, source)
    sound = imported.episodes
    played = [(row, t) for row, t in sound if row["phase"] not in MEASURED]
    seen = {same_episode(row) for row, _ in played if row["phase"] == store.Phase.EXPLORE}
    once = [(row, t) for row, t in played if not is_double(row, seen)]
    learned = [t for _, t in once if t.success is not False and t.stop.by_itself]
    if quarantine is not None:
        if imported.quarantined:
            write_quarantine(quarantine, imported.quarantined)
            progress.show(f"{source}: {imported.complaint}: see {quarantine}")
        for line in imported.told:
            progress.show(f"{source}: {line}")
        for left, why in (
            (len(sound) - len(played), "were played to measure (eval, control) and are left out"),
            (len(played) - len(once), "are there twice (explored and kept) and count once"),
            (len(once) - len(learned), "did not succeed and are left out"),
        ):
            if left:
                progress.show(f"{source}: {left} of {len(sound)} episodes {why}")
        if others:
            progress.show(f"{source}: {complaint_about(others)}")
    return learned
