"""The method on one page: behavioural cloning, then explore, keep what succeeded, learn, measure; repeat.

Every phase leaves a file or a folder that is there whole or not at all, and is skipped if it is there: the same
command goes on where it was interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from agentgym import hooks, progress
from agentgym.checks import check_recipe
from agentgym.data import store
from agentgym.data.prompts import data_prompts
from agentgym.devices import device_names
from agentgym.evaluation import scalars
from agentgym.evaluation.answers import LEARNED, Answers, warnings
from agentgym.evaluation.ends import check_any_finished, ends_of, has_score
from agentgym.evaluation.html import write_html
from agentgym.evaluation.players import Played, measure
from agentgym.evaluation.report import Explored, Iteration, Report, describe_machine, installed_versions
from agentgym.evaluation.report import Learned as Work
from agentgym.evaluation.why import looked_at
from agentgym.experts import check_versions, expert_set, read_data
from agentgym.learn import Learned, LearnJob, learn, module_class
from agentgym.numbering import configured, spec_of
from agentgym.overlap import overlap_of
from agentgym.play import PlayJob, sampling_seed, tasks_of
from agentgym.preflight import check_fit
from agentgym.ranks import ALONE, Ranks, join
from agentgym.runfolder import RunFolder
from agentgym.selection import is_worth, keep
from agentgym.settings import FormatName, Merge, Recipe, Start
from agentgym.tracking import Tracker
from agentgym.workers import Workers
from envpool import Split, Task, Trajectory

TINY = "tiny"


class _Callable(ModuleType):
    """This module, to be called as the function that it is named for: `agentgym.fit(recipe)`."""

    def __call__(self, recipe: Recipe) -> Report:
        return fit(recipe)


sys.modules[__name__].__class__ = _Callable


def fit(recipe: Recipe) -> Report:
    """Runs a recipe, or goes on with it, and returns the report that it also prints and writes.

    With several devices every process of the run calls this (see `agentgym.ranks`).

    Raises:
        NothingFinished: in one of its phases no episode came to an end by itself.
        AgentGymError: one line (or one a complaint) with a cure. What is wrong with the recipe, its files or its
            model is said before anything is written.
    """
    prepare(recipe)
    with configured(recipe):
        return _run(recipe)


def _run(recipe: Recipe) -> Report:
    ranks = join(recipe.trainer)
    ranks.first_does(lambda: RunFolder(recipe))
    folder = RunFolder(recipe)
    progress.header(folder.path, recipe.seed)
    tracker = Tracker(recipe.tracking, folder.path, name=recipe.name, config=asdict(recipe))
    try:
        folder.refuse("eval-*", "`agentgym eval`")
        with Workers(recipe, folder, ranks) as workers:
            report = _Fit(recipe, folder, workers, tracker, ranks).run()
        ranks.first_does(lambda: report.write(folder.path))
        ranks.first_does(lambda: write_html(folder.path))
        progress.show(report)
        return report
    finally:
        tracker.finish()
        folder.leave()


def prepare(recipe: Recipe) -> None:
    """Looks at the recipe, its files and its model.

    Raises:
        AgentGymError: something is wrong with them.
    """
    progress.quiet()
    check_recipe(recipe)
    check_fit(recipe)
    module_class(recipe.module)
    with configured(recipe):
        for file in recipe.data:
            check_versions(recipe, file, read_data(file))
        data_prompts(recipe)
    if recipe.model.name != TINY:
        from agentgym.codecs import speaking
        from agentgym.models import check_model
        from agentgym.trial import check_playable, check_trainable

        check_model(recipe.model.name, recipe.model.context, recipe.model)
        speaking(recipe, recipe.model.name)
        check_trainable(recipe.model.name)
        check_playable(recipe.model.name)


class _Fit:
    """One run of a recipe."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, workers: Workers, tracker: Tracker, ranks: Ranks = ALONE
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.workers = workers
        self.tracker = tracker
        self.ranks = ranks
        self.steps = 0
        self._solved: set[Task] = set()
        self._worth: set[Task] = set()  # tasks of which some try was worth learning from

    def run(self) -> Report:
        recipe = self.recipe
        expert = self.folder.trajectories("expert")
        self._make(expert, lambda: expert_set(recipe, self.folder))
        for line in overlap_of(recipe, store.read([expert])):
            progress.show(line)
        base = self._base(expert)
        bc = self.clone(base, expert)
        iterations = [Iteration(iteration=0, played=self.measure(bc.model, 0), learned=_work(bc))]
        current, control = bc.model, bc
        kept: Path | None = None
        for number in range(1, recipe.evol.iterations + 1):
            explored, kept = self.explore(current, number, kept)
            start = {Start.base: base, Start.bc: bc.model, Start.current: current}[recipe.evol.start]
            evolved, control = self.learn(start, [expert, kept], number, control, expert)
            current = evolved.model
            played = self.measure(current, number)
            iterations.append(Iteration(iteration=number, played=played, learned=_work(evolved), explored=explored))
        report = Report(
            name=recipe.name,
            seed=recipe.seed,
            recipe=asdict(recipe),
            iterations=iterations,
            control=self.measure_control(control, bc) if recipe.evol.control and recipe.evol.iterations else None,
            seconds=self.folder.seconds(),
            versions=installed_versions(),
            machine=describe_machine(device_names(recipe.trainer, recipe.pool.workers)),
        )
        last = iterations[-1].iteration
        self.tracker.log(scalars.concluded(report), last, self.steps)
        self.tracker.log_table("results", *scalars.results(report), last)
        return report

    def clone(self, base: str, expert: Path) -> Learned:
        """Iteration 0: behavioural cloning of the expert set."""
        job = self._job(base, [expert], 0, self.folder.iteration(0), bc=True)
        return self._learn(job, "behavioural cloning", 0)

    def explore(self, model: str, number: int, before: Path | None) -> tuple[Explored, Path]:
        """Tries the exploration tasks and writes what is worth learning from."""
        recipe, evol = self.recipe, self.recipe.evol
        carries = before is not None and (evol.merge == Merge.previous or evol.only_unsolved)
        carried = store.read([before]) if before is not None and carries else []
        tasks = tasks_of(recipe, Split.EXPLORE)
        solved = set(self._worth) if evol.only_unsolved else set()
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
                top_k=evol.top_k,
                min_p=evol.min_p,
            )
            if job.tasks:
                turn = f", try {sample + 1} of {evol.samples}" if evol.samples > 1 else ""
                played += self._play(job, f"exploring {number} of {evol.iterations}{turn}", played)
            self._worth |= {t.task for t in played if is_worth(t, recipe.environments[t.task.environment])}
            if evol.only_unsolved:
                solved |= self._worth
        kept = keep(played, recipe.environments, evol.dedup, carried)
        write = partial(store.write, iteration=number, phase=store.Phase.KEPT)
        self._make(self._kept(number), lambda: write(self._kept(number), kept))
        newly_solved = len({t.task for t in played if t.success} - self._solved)
        explored = Explored.of(played, kept=len(kept), newly_solved=newly_solved)
        self._warn({f"exploration {number}": explored.answers})
        self._solved |= {t.task for t in played if t.success}
        self.tracker.log(scalars.explored(explored), number, self.steps)
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
            return evolved, learn(self.recipe, replace(beside, steps=evolved.steps), ranks=self.ranks)
        learned: list[Learned] = []
        self.workers.learn_beside(beside, lambda: learned.append(self._learn(job, title, number)))
        return learned[0], learn(self.recipe, beside, ranks=self.ranks)

    def measure(self, model: str, number: int) -> Played:
        """Plays the evaluation tasks greedily."""
        return self._measure(model, number, store.Phase.EVAL, f"it{number:03d}-eval", f"measuring iteration {number}")

    def measure_control(self, control: Learned, bc: Learned) -> Iteration:
        """What as much learning from the expert set alone would have brought."""
        number = self.recipe.evol.iterations
        played = self._measure(control.model, number, store.Phase.CONTROL, "control-eval", "measuring the control")
        phases = [learn(self.recipe, self._job("", [], n, self.folder.control(n))) for n in range(1, number + 1)]
        steps, tokens = sum(p.steps for p in phases), sum(p.tokens for p in phases)
        work = Work(steps=steps, tokens=tokens, trajectories=bc.trajectories, loss=phases[-1].loss)
        return Iteration(iteration=number, played=played, learned=work)

    def _measure(self, model: str, number: int, phase: store.Phase, name: str, title: str) -> Played:
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
        trajectories = self._play(job, title)
        played = measure(trajectories, {name: spec_of(self.recipe, name) for name in self.recipe.environments})
        name = "the control" if phase == store.Phase.CONTROL else f"iteration {number}"
        self._warn(looked_at(name, played))
        self.tracker.log(scalars.measured(str(phase), played), number, self.steps)
        self.tracker.log_trajectories(trajectories, number, str(phase))
        return played

    def _play(self, job: PlayJob, title: str, before: Sequence[Trajectory] = ()) -> list[Trajectory]:
        """Plays a job; a phase of which an earlier start finished nothing is played once more.

        Args:
            job: what to play.
            title: what the terminal calls it.
            before: what was played of the same phase.

        Raises:
            NothingFinished: no episode of the phase came to an end by itself.
        """
        with self.ranks.together():
            failed_before = job.out.exists()
        played = self.workers.play(job, title)
        if failed_before and not any(map(has_score, [*before, *played])):
            played = self.workers.play(replace(job, again=True), title)
        check_any_finished({title: ends_of([*before, *played])})
        return played

    def _warn(self, named: Mapping[str, Answers]) -> None:
        """Says at once, and not only in the report, that many answers held no action."""
        for line in warnings(named, LEARNED):
            progress.show(line)

    def _learn(self, job: LearnJob, title: str, number: int) -> Learned:
        started = not (job.folder / "done.json").exists()
        logger = hooks.PhaseLogger(self.tracker, number, self.steps) if self.tracker.on else None
        settings = self.recipe.bc if job.bc else self.recipe.learn
        callbacks = [hooks.LearningBar(title, settings.steps)]
        if started:
            with self.folder.timed("bc" if job.bc else "learn"):
                learned = learn(self.recipe, job, logger=logger, callbacks=callbacks, ranks=self.ranks)
        else:
            learned = learn(self.recipe, job)
        self.steps += learned.steps
        self.tracker.log(scalars.learned(_work(learned)), number, self.steps)
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

    def _base(self, expert: Path) -> str:
        """The model before any learning: a hub id or folder, or the tiny model, built here."""
        model, path = self.recipe.model, self.folder.path / "base"
        if model.name != TINY:
            return model.name
        self._make(path, lambda: self._build_tiny(path, expert))
        return str(path)

    def _build_tiny(self, path: Path, expert: Path) -> None:
        from agentgym.models import build_tiny

        model, tools = self.recipe.model, self.recipe.format == FormatName.native
        texts = [message.text for trajectory in store.read([expert]) for message in trajectory.messages]
        build_tiny(model.tiny, texts, context=model.context, seed=self.recipe.seed, folder=path, tools=tools)

    def _make(self, path: Path, write: Callable[[], object]) -> None:
        """Lets the first rank write what is not there yet. Only that one looks: others might look after it wrote."""
        self.ranks.first_does(lambda: path.exists() or write())

    def _kept(self, number: int) -> Path:
        return self.folder.trajectories(f"it{number:03d}-kept")


def _work(learned: Learned) -> Work:
    return Work(
        steps=learned.steps,
        tokens=learned.tokens,
        trajectories=learned.trajectories,
        loss=learned.loss,
        cut=learned.cut,
    )
