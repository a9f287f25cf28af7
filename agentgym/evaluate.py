"""Playing without learning: measure players on the benchmark, or collect trajectories."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from agentgym import progress
from agentgym.checks import check_recipe, is_local
from agentgym.data import store
from agentgym.data.prompts import data_prompts
from agentgym.devices import device_names
from agentgym.errors import DataError
from agentgym.evaluation import scalars
from agentgym.evaluation.answers import Asked, answers_of, warnings
from agentgym.evaluation.ends import check_any_finished, counted, ends_of
from agentgym.evaluation.html import write_html
from agentgym.evaluation.players import measure
from agentgym.evaluation.report import describe_machine, installed_versions
from agentgym.evaluation.scoreboard import EvalReport, Player
from agentgym.manner import in_manner_of, manner_of
from agentgym.numbering import configured, spec_of
from agentgym.play import PlayJob, sampling_seed, tasks_of
from agentgym.preflight import check_eval, check_play, players_of
from agentgym.runfolder import RunFolder
from agentgym.settings import Recipe
from agentgym.tracking import Tracker
from agentgym.workers import Workers
from envpool import Split, Task, Trajectory
from envpool.errors import did_you_mean


def evaluate(recipe: Recipe) -> EvalReport:
    """Measures the recipe's players on its evaluation tasks, or goes on with it; prints and writes the report.

    Raises:
        NothingFinished: no episode came to an end by itself; the report is written all the same.
        AgentGymError: one line (or one a complaint) with a cure. What is wrong with the recipe or a local model is
            said before anything is written.
    """
    progress.quiet()
    check_recipe(recipe)
    check_eval(recipe)
    with configured(recipe):
        return _evaluate(recipe)


def _evaluate(recipe: Recipe) -> EvalReport:
    names = players_of(recipe)
    _prepare(recipe, names)
    folder = RunFolder(recipe)
    progress.header(folder.path, recipe.seed)
    tracker = Tracker(recipe.tracking, folder.path, name=recipe.name, config=asdict(recipe))
    try:
        folder.refuse("expert.parquet", "`agentgym fit`")
        with Workers(recipe, folder) as workers:
            players = [_measured(recipe, name, folder, workers) for name in names]
        report = _report(recipe, players, folder)
        progress.show(report)
        report.write(folder.path)
        write_html(folder.path)
        _track(tracker, report, folder)
        check_any_finished({player.name: player.played.ends for player in report.players})
        return report
    finally:
        tracker.finish()
        folder.leave()


def _report(recipe: Recipe, players: list[Player], folder: RunFolder) -> EvalReport:
    local = any(is_local(recipe, player.name) for player in players)
    return EvalReport(
        name=recipe.name,
        seed=recipe.seed,
        recipe=asdict(recipe),
        players=players,
        seconds=folder.seconds(),
        versions=installed_versions(),
        machine=describe_machine(device_names(recipe.trainer, recipe.pool.workers) if local else ()),
    )


def _track(tracker: Tracker, report: EvalReport, folder: RunFolder) -> None:
    """Sends the figures and the table of the report, and some episodes of each player, to W&B."""
    if not tracker.on:
        return
    tracker.log_table("players", *scalars.players(report), 0)
    for player in report.players:
        name = f"player/{slug(player.name)}"
        tracker.log(scalars.measured(name, player.played), 0)
        files = [folder.path / "trajectories" / file for file in player.trajectories]
        tracker.log_trajectories(store.read(files), 0, name)


def _prepare(recipe: Recipe, players: Sequence[str]) -> None:
    """Makes sure that models and their manners can be read, and says which prompts of `data` are used."""
    for note in data_prompts(recipe).notes:
        progress.show(note)
    for player in players:
        taught = in_manner_of(recipe, player)
        if is_local(recipe, player):
            from agentgym.codecs import speaking
            from agentgym.models import check_model
            from agentgym.trial import check_playable

            check_model(player, taught.model.context, recipe.model)
            speaking(taught, player)
            check_playable(player)


def _measured(recipe: Recipe, name: str, folder: RunFolder, workers: Workers) -> Player:
    played: list[Trajectory] = []
    files = [folder.trajectories(f"eval-{slug(name)}-{sample}") for sample in range(recipe.eval.samples)]
    for sample, file in enumerate(files):
        turn = f", try {sample + 1} of {len(files)}" if len(files) > 1 else ""
        played += workers.play(_eval_job(recipe, name, sample, file), f"measuring {name}{turn}")
    manner = manner_of(in_manner_of(recipe, name))
    return Player(
        name=name,
        manner=manner,
        taught=manner != manner_of(recipe),
        played=measure(played, {environment: spec_of(recipe, environment) for environment in recipe.environments}),
        trajectories=[file.name for file in files],
    )


def slug(player: str) -> str:
    """What files of a player are called: its name as far as it can be one, and a hash of it where that is not all."""
    words = re.sub(r"[^\w.]+", "-", player).strip("-.")[-60:].lstrip("-.")
    return player if words == player else f"{words}-{hashlib.sha256(player.encode()).hexdigest()[:6]}"


def collect(recipe: Recipe, split: Split | str, to: Path | str | None = None) -> Path:
    """Plays the recipe's tasks of a split with its model, or `expert` or `random`, and writes the trajectories.

    Args:
        recipe: the recipe.
        split: which tasks: `train`, `explore` or `eval`.
        to: the trajectory file; one in the run folder if None.

    Returns:
        The trajectory file.

    Raises:
        NothingFinished: no episode came to an end by itself; the file is written all the same.
        AgentGymError: one line (or one a complaint) with a cure. What is wrong with the recipe or a local model is
            said before anything is written.
    """
    progress.quiet()
    if split not in list(Split):
        raise DataError(f"there is no split {split!r}{did_you_mean(str(split), Split)} (known: {', '.join(Split)})")
    split = Split(split)
    if to is not None and Path(to).suffix != ".parquet":
        raise DataError(f"{to} is no trajectory file: its name should end in .parquet")
    check_recipe(recipe)
    check_play(recipe, split)
    with configured(recipe):
        return _collect(recipe, split, to)


def _collect(recipe: Recipe, split: Split, to: Path | str | None) -> Path:
    _prepare(recipe, [recipe.model.name])
    folder = RunFolder(recipe)
    out = folder.trajectories(f"collected-{split}") if to is None else Path(to)
    job = PlayJob(
        model=recipe.model.name,
        tasks=tuple(tasks_of(recipe, split)),
        sample=0,
        temperature=0.0 if split == Split.EVAL else recipe.evol.temperature,
        top_p=recipe.evol.top_p,
        seed=recipe.seed,
        iteration=0,
        phase=store.Phase.EVAL if split == Split.EVAL else store.Phase.EXPLORE,
        out=out,
        again=True,
        top_k=recipe.evol.top_k,
        min_p=recipe.evol.min_p,
    )
    specs = {name: spec_of(recipe, name) for name in recipe.environments}
    try:
        with Workers(recipe, folder) as workers:
            played = workers.play(job, f"collecting with {recipe.model.name}")
    finally:
        folder.leave()
    progress.show(f"{len(played)} trajectories, {sum(bool(t.success) for t in played)} of them solved, in {out}")
    ends = ends_of(played)
    check_any_finished({f"collecting with {recipe.model.name}": ends})
    if ends.errored:
        progress.show(f"{sum(ends.errored.values()):,} of them failed: {counted(ends.causes) or ends}")
    for line in warnings({recipe.model.name: answers_of(played, specs)}, Asked.by(asdict(recipe))):
        progress.show(line)
    return out


def _eval_job(recipe: Recipe, player: str, sample: int, out: Path) -> PlayJob:
    several = recipe.eval.samples > 1
    return PlayJob(
        model=player,
        tasks=tuple(_tasks(recipe)),
        sample=sample,
        temperature=recipe.evol.temperature if several else 0.0,
        top_p=recipe.evol.top_p if several else 1.0,
        seed=sampling_seed(recipe.seed, "eval", sample) if several else recipe.seed,
        iteration=0,
        phase=store.Phase.EVAL,
        out=out,
        again=True,
        top_k=recipe.evol.top_k if several else 0,
        min_p=recipe.evol.min_p if several else 0.0,
    )


def _tasks(recipe: Recipe) -> list[Task]:
    """The evaluation tasks, at most `eval.limit` of each environment: those of a lower limit are among them."""
    tasks = tasks_of(recipe, Split.EVAL)
    chosen: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: hashlib.sha256(f"limit {task.item_id}".encode()).digest()):
        chosen.setdefault(task.environment, []).append(task)  # a panel may have its tasks in any order
    kept = {task for found in chosen.values() for task in found[: recipe.eval.limit]}
    return [task for task in tasks if task in kept]
