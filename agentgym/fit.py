"""The method on one page: behavioural cloning, then explore, keep what succeeded, learn, measure; repeat.

Every phase leaves a file or a folder that is there whole or not at all, and is skipped if it is there: the same
command goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from agentgym import hooks, progress
from agentgym.checks import check_fit, check_recipe
from agentgym.data import store
from agentgym.data.agenttraj import load_agenttraj
from agentgym.errors import DataError
from agentgym.evaluation.agenteval import Result, summarize
from agentgym.evaluation.report import Explored, Iteration, Report, describe_machine, installed_versions
from agentgym.evaluation.report import Learned as Work
from agentgym.learn import Learned, LearnJob, learn, module_class
from agentgym.play import PlayJob, environment_pool, sampling_seed, tasks_of
from agentgym.runfolder import RunFolder
from agentgym.selection import keep
from agentgym.settings import Merge, Recipe, Start
from agentgym.tracking import Tracker
from agentgym.workers import Workers
from envpool import ExpertPolicy, Split, Task, Trajectory, get_spec
from envpool import collect as play_in_pool

TINY = "tiny"


def fit(recipe: Recipe) -> Report:
    """Runs a recipe, or goes on with it, and returns the report that it also prints and writes.

    Raises:
        AgentGymError: one line (or one a complaint) with a cure. What is wrong with the recipe, its files or its
            model is said before anything is written.
    """
    progress.quiet()
    check_recipe(recipe)
    check_fit(recipe)
    module_class(recipe.module)
    for file in recipe.data:
        read_data(Path(file), skip_damaged=recipe.skip_damaged)
    if recipe.model.name != TINY:
        from agentgym.models import check_model

        check_model(recipe.model.name)
    folder = RunFolder(recipe)
    progress.header(folder.path, recipe.seed)
    tracker = Tracker(recipe.tracking, folder.path, name=recipe.name, config=asdict(recipe))
    try:
        with Workers(recipe, folder) as workers:
            report = _Fit(recipe, folder, workers, tracker).run()
        report.write(folder.path)
        progress.show(report)
        return report
    finally:
        tracker.finish()


class _Fit:
    """One run of a recipe."""

    def __init__(self, recipe: Recipe, folder: RunFolder, workers: Workers, tracker: Tracker) -> None:
        self.recipe = recipe
        self.folder = folder
        self.workers = workers
        self.tracker = tracker
        self.steps = 0
        self._solved: set[Task] = set()

    def run(self) -> Report:
        recipe = self.recipe
        expert = expert_set(recipe, self.folder)
        base = base_model(recipe, self.folder, expert)
        bc = self.clone(base, expert)
        iterations = [Iteration(iteration=0, result=self.measure(bc.model, 0), learned=_work(bc))]
        current, control = bc.model, bc
        kept: Path | None = None
        for number in range(1, recipe.evol.iterations + 1):
            explored, kept = self.explore(current, number, kept)
            start = {Start.base: base, Start.bc: bc.model, Start.current: current}[recipe.evol.start]
            evolved, control = self.learn(start, [expert, kept], number, control, expert)
            current = evolved.model
            result = self.measure(current, number)
            iterations.append(Iteration(iteration=number, result=result, learned=_work(evolved), explored=explored))
        return Report(
            name=recipe.name,
            seed=recipe.seed,
            recipe=asdict(recipe),
            iterations=iterations,
            control=self.measure_control(control, bc) if recipe.evol.control and recipe.evol.iterations else None,
            seconds=self.folder.seconds(),
            versions=installed_versions(),
            machine=describe_machine(),
        )

    def clone(self, base: str, expert: Path) -> Learned:
        """Iteration 0: behavioural cloning of the expert set."""
        job = self._job(base, [expert], 0, self.folder.iteration(0), bc=True)
        return self._learn(job, "behavioural cloning", 0)

    def explore(self, model: str, number: int, before: Path | None) -> tuple[Explored, Path]:
        """Tries the exploration tasks and writes what is worth learning from."""
        recipe, evol = self.recipe, self.recipe.evol
        carries = before is not None and (evol.merge is Merge.previous or evol.only_unsolved)
        carried = store.read([before]) if before is not None and carries else []
        tasks = tasks_of(recipe, Split.EXPLORE)
        solved = {t.task for t in carried} if evol.only_unsolved else set()
        played: list[Trajectory] = []
        for sample in range(evol.samples):
            job = PlayJob(
                model=model,
                tasks=tuple(task for task in tasks if task not in solved),
                sample=sample,
                temperature=evol.temperature,
                top_p=evol.top_p,
                seed=sampling_seed(recipe.seed, "explore", number, sample),
                iteration=number,
                phase=store.Phase.EXPLORE,
                out=self.folder.trajectories(f"it{number:03d}-explore-{sample}"),
            )
            if job.tasks:
                turn = f", try {sample + 1} of {evol.samples}" if evol.samples > 1 else ""
                played += self.workers.play(job, f"exploring {number} of {evol.iterations}{turn}")
            if evol.only_unsolved:
                solved |= {t.task for t in keep(played, recipe.environments, evol.dedup)}
        kept = keep([*carried, *played], recipe.environments, evol.dedup)
        if not self._kept(number).exists():
            store.write(self._kept(number), kept, iteration=number, phase=store.Phase.EXPLORE)
        explored = Explored(
            tried=len(played),
            finished=sum(t.score is not None for t in played),
            errored=sum(t.score is None for t in played),
            succeeded=sum(bool(t.success) for t in played),
            kept=len(kept),
            newly_solved=len({t.task for t in played if t.success} - self._solved),
        )
        self._solved |= {t.task for t in played if t.success}
        self.tracker.log_trajectories(played, number, "explored")
        return explored, self._kept(number)

    def learn(
        self, start: str, data: Sequence[Path], number: int, control: Learned, expert: Path
    ) -> tuple[Learned, Learned]:
        """Learns from what was kept; the control goes on with the expert set for as many steps, beside it."""
        job = self._job(start, data, number, self.folder.iteration(number))
        title = f"learning {number} of {self.recipe.evol.iterations}"
        if not self.recipe.evol.control:
            return self._learn(job, title, number), control
        beside = self._job(control.model, [expert], number, self.folder.control(number))
        if self.recipe.learn.steps is None:  # how many steps the epochs are is known afterwards
            evolved = self._learn(job, title, number)
            return evolved, learn(self.recipe, replace(beside, steps=evolved.steps))
        learned: list[Learned] = []
        self.workers.learn_beside(beside, lambda: learned.append(self._learn(job, title, number)))
        return learned[0], learn(self.recipe, beside)

    def measure(self, model: str, number: int) -> Result:
        """Plays the evaluation tasks greedily."""
        return self._measure(model, number, store.Phase.EVAL, f"it{number:03d}-eval", f"measuring iteration {number}")

    def measure_control(self, control: Learned, bc: Learned) -> Iteration:
        """What as much learning from the expert set alone would have brought."""
        number = self.recipe.evol.iterations
        result = self._measure(control.model, number, store.Phase.CONTROL, "control-eval", "measuring the control")
        phases = [learn(self.recipe, self._job("", [], n, self.folder.control(n))) for n in range(1, number + 1)]
        steps, tokens = sum(p.steps for p in phases), sum(p.tokens for p in phases)
        work = Work(steps=steps, tokens=tokens, trajectories=bc.trajectories)
        return Iteration(iteration=number, result=result, learned=work)

    def _measure(self, model: str, number: int, phase: store.Phase, name: str, title: str) -> Result:
        job = PlayJob(
            model=model,
            tasks=tuple(tasks_of(self.recipe, Split.EVAL)),
            sample=0,
            temperature=0.0,
            top_p=1.0,
            seed=self.recipe.seed,
            iteration=number,
            phase=phase,
            out=self.folder.trajectories(name),
        )
        played = self.workers.play(job, title)
        result = summarize(played, {name: get_spec(name).score_range for name in self.recipe.environments})
        scalars = {f"{phase}/{name}/success": r.success for name, r in result.environments.items()}
        self.tracker.log({**scalars, f"{phase}/macro/success": result.macro.success}, number)
        self.tracker.log_trajectories(played, number, str(phase))
        return result

    def _learn(self, job: LearnJob, title: str, number: int) -> Learned:
        started = not (job.folder / "done.json").exists()
        logger = hooks.PhaseLogger(self.tracker, number, self.steps) if self.tracker.on else None
        settings = self.recipe.bc if job.bc else self.recipe.learn
        callbacks = [hooks.LearningBar(title, settings.steps)]
        if started:
            with self.folder.timed("bc" if job.bc else "learn"):
                learned = learn(self.recipe, job, logger=logger, callbacks=callbacks)
        else:
            learned = learn(self.recipe, job)
        self.steps += learned.steps
        return learned

    def _job(self, start: str, data: Sequence[Path], number: int, folder: Path, *, bc: bool = False) -> LearnJob:
        return LearnJob(
            start=start,
            data=tuple(data),
            bc=bc,
            module=self.recipe.module,
            seed=sampling_seed(self.recipe.seed, "learn", number),
            folder=folder,
        )

    def _kept(self, number: int) -> Path:
        return self.folder.trajectories(f"it{number:03d}-kept")


def _work(learned: Learned) -> Work:
    return Work(steps=learned.steps, tokens=learned.tokens, trajectories=learned.trajectories)


def expert_set(recipe: Recipe, folder: RunFolder) -> Path:
    """Writes the expert set: what the environments' experts did, and the trajectory files of the recipe."""
    out = folder.trajectories("expert")
    if out.exists():
        return out
    tasks = tasks_of(recipe, Split.TRAIN)
    with folder.timed("expert"), progress.phase("collecting expert trajectories", len(tasks), unit="episodes") as bar:
        pool = environment_pool(recipe, here=True)
        played = play_in_pool(pool, tasks, ExpertPolicy(), on_trajectory=lambda _: bar.advance())
    expert = [t for t in played if t.success]
    for file in recipe.data:
        expert += read_data(Path(file), skip_damaged=recipe.skip_damaged)
    if not expert:
        raise DataError("the expert set is empty: no expert succeeded and no file of `data` holds a trajectory")
    store.write(out, expert, iteration=0, phase=store.Phase.EXPERT)
    return out


def read_data(path: Path, *, skip_damaged: bool) -> list[Trajectory]:
    """Reads a trajectory file, Parquet or AgentTraj JSON.

    Raises:
        DataError: the file cannot be read; or records are damaged, unless they are to be skipped, which is told.
    """
    if path.suffix == ".parquet":
        return store.read([path])
    trajectories, complaints = load_agenttraj(path)
    if complaints:
        some = "; ".join(complaints[:3]) + (f"; and {len(complaints) - 3} more" if len(complaints) > 3 else "")
        damaged = f"{len(complaints)} of {len(complaints) + len(trajectories)} records of {path} are damaged ({some})"
        if not skip_damaged:
            raise DataError(f"{damaged}: mend them, or set skip_damaged=true to learn from the others")
        progress.show(f"{damaged} and left out")
    return trajectories


def base_model(recipe: Recipe, folder: RunFolder, expert: Path) -> str:
    """The model before any learning: a hub id or folder, or the tiny model, built here."""
    if recipe.model.name != TINY:
        return recipe.model.name
    path = folder.path / "base"
    if not path.exists():
        from agentgym.models import build_tiny

        texts = [message.content for trajectory in store.read([expert]) for message in trajectory.messages]
        build_tiny(recipe.model.tiny, texts, context=recipe.model.context, seed=recipe.seed, folder=path)
    return str(path)
