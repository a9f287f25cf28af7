"""What a player did on a benchmark: per environment and per type of task, however often each task was tried.

An episode without a score (the environment or the policy failed) is never a number: it is counted as `errored`, and
every figure is of the finished episodes only. Each task weighs the same, however many of its tries came to an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from agentgym.errors import DataError
from agentgym.evaluation.answers import Answers, answers_of
from agentgym.evaluation.ends import Ends, ends_of, has_score
from agentgym.evaluation.statistics import Interval, combined_interval, mean_interval, pass_at_k, pass_hat_k
from agentgym.itemids import other_task
from envpool import EnvSpec
from envpool.types import Task, Trajectory

NOTHING_KNOWN: Interval = (0.0, 1.0)
"""Limits of a share of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the finished tries at one task came to.

    Attributes:
        tries: how many there are.
        solved: how many of them succeeded.
        score: their mean score, on the environment's own scale.
        headline: the environment's metric, scaled: the share solved, or the mean score as `scaled` has it.
    """

    tries: int
    solved: int
    score: float
    headline: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a player did on some tasks. Shares, means and turns are None where no episode was finished.

    Attributes:
        tasks: how many tasks it was given.
        episodes: how many tries at them there were.
        errored: how many of these did not come to an end by themselves.
        success: share solved.
        success_interval: its 95 % limits: Wilson's with one try a task, clustered by task with several.
        score: mean score, on the environment's own scale.
        score_interval: its 95 % limits, clustered by task.
        turns: mean number of turns of an episode.
        pass_at_k: how probably at least one of k tries solves a task, by k; of the tasks with at least k finished
            tries, None where there is none.
        pass_hat_k: how probably all of k tries do.
    """

    tasks: int
    episodes: int
    errored: int
    success: float | None
    success_interval: Interval
    score: float | None
    score_interval: Interval
    turns: float | None
    pass_at_k: Mapping[int, float | None]
    pass_hat_k: Mapping[int, float | None]

    @property
    def finished(self) -> int:
        """How many episodes came to an end by themselves."""
        return self.episodes - self.errored

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        intervals = {key: list(value) for key, value in asdict(self).items() if key.endswith("_interval")}
        by_k = {key: {str(k): share for k, share in getattr(self, key).items()} for key in ("pass_at_k", "pass_hat_k")}
        return {**asdict(self), **intervals, **by_k}


@dataclass(frozen=True, kw_only=True)
class EnvironmentFigures(Figures):
    """What a player did in one environment.

    Attributes:
        versions: those of the environment that were played; one, unless it changed under the run.
        metric: what benchmarks report for it, ``success`` or ``score``.
        headline: that metric, from 0 (a player that does nothing) to 1 (the best there can be); see `scaled`.
        headline_interval: its 95 % limits.
        answers: what its answers held.
        ends: how its episodes ended.
        task_type: the fact that sorts its tasks; None if it has no types.
        types: the figures of each type of task, by the value of that fact.
    """

    versions: Sequence[str]
    metric: str
    headline: float | None
    headline_interval: Interval
    answers: Answers
    ends: Ends
    task_type: str | None = None
    types: Mapping[str, Figures] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        types = {value: figures.to_json() for value, figures in self.types.items()}
        return {**super().to_json(), "versions": list(self.versions), "types": types}


@dataclass(frozen=True, kw_only=True)
class Macro:
    """Means over environments, each weighing the same. None where an environment finished no episode.

    Attributes:
        success: mean of the shares solved.
        success_interval: its 95 % limits.
        score: mean of the mean scores, each scaled as `scaled` has it.
        headline: mean of the headlines.
        headline_interval: its 95 % limits.
    """

    success: float | None
    success_interval: Interval
    score: float | None
    headline: float | None
    headline_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a player did in all environments. A model after an iteration of a fit is a player, too.

    Attributes:
        environments: by name, sorted.
        macro: means over the environments.
        given: every task that it was given.
        outcomes: every task of which at least one try was finished; what comparisons pair.
        answers: what its answers held, in all environments.
        ends: how its episodes ended, in all environments.
    """

    environments: Mapping[str, EnvironmentFigures]
    macro: Macro
    given: frozenset[Task]
    outcomes: Mapping[Task, Outcome]
    answers: Answers
    ends: Ends

    def to_json(self) -> dict[str, Any]:
        """The figures in types that JSON has."""
        environments = {name: figures.to_json() for name, figures in self.environments.items()}
        told = {"answers": self.answers.to_json(), "ends": self.ends.to_json()}
        return {"macro": self.macro.to_json(), "environments": environments, **told}

    @property
    def episodes(self) -> int:
        """How many episodes were played, over all environments."""
        return sum(figures.episodes for figures in self.environments.values())

    @property
    def finished(self) -> int:
        """How many of them came to an end by themselves."""
        return sum(figures.finished for figures in self.environments.values())

    @property
    def samples(self) -> int:
        """Most tries that a task got."""
        return max((max(figures.pass_at_k, default=0) for figures in self.environments.values()), default=0)


def measure(trajectories: Iterable[Trajectory], specs: Mapping[str, EnvSpec]) -> Played:
    """Turns the episodes of one player into its figures.

    Args:
        trajectories: any number of tries at every task; the result does not depend on their order.
        specs: the cards of the environments.

    Raises:
        DataError: an episode is there twice.
    """
    episodes: dict[str, dict[Task, dict[int, Trajectory]]] = {}
    for trajectory in trajectories:
        tries = episodes.setdefault(trajectory.task.environment, {}).setdefault(trajectory.task, {})
        if trajectory.sample in tries:
            where = f"try {trajectory.sample + 1} of {trajectory.task.item_id}"
            raise DataError(f"{where} was measured twice: name the files of one evaluation only")
        tries[trajectory.sample] = trajectory
    environments: dict[str, EnvironmentFigures] = {}
    outcomes: dict[Task, Outcome] = {}
    for name in sorted(episodes):
        tasks = {task: [tries[n] for n in sorted(tries)] for task, tries in sorted(episodes[name].items())}
        found = {task: outcome for task, tries in tasks.items() if (outcome := _outcome(tries, specs[name]))}
        environments[name] = _environment(tasks, found, specs[name])
        outcomes |= found
    every = [trajectory for tasks in episodes.values() for tries in tasks.values() for trajectory in tries.values()]
    return Played(
        environments=environments,
        macro=_macro(environments, specs),
        given=frozenset(task for tasks in episodes.values() for task in tasks),
        outcomes=outcomes,
        answers=answers_of(every, specs),
        ends=ends_of(every),
    )


def scaled(score: float, spec: EnvSpec) -> float:
    """A score from 0, that of a player that does nothing, to 1, the highest.

    It is negative for a score below the one before the first action.
    """
    low, high = spec.score_range
    start = low if spec.initial_score == high else spec.initial_score
    return (score - start) / (high - start)


def _outcome(tries: Sequence[Trajectory], spec: EnvSpec) -> Outcome | None:
    ended = [t for t in tries if has_score(t)]
    if not ended:
        return None
    score = fmean(t.score for t in ended if t.score is not None)
    solved = sum(bool(t.success) for t in ended)
    headline = scaled(score, spec) if spec.metric == "score" else solved / len(ended)
    return Outcome(len(ended), solved, score, headline)


def _environment(
    tasks: Mapping[Task, Sequence[Trajectory]], outcomes: Mapping[Task, Outcome], spec: EnvSpec
) -> EnvironmentFigures:
    kinds: dict[int | str, list[Task]] = {}
    versions = sorted({trajectory.version for tries in tasks.values() for trajectory in tries})
    if any(other_task(spec, version) for version in versions):
        spec = replace(spec, task_type=None)  # our facts are of other tasks
    if spec.task_type is not None:
        for task in tasks:
            kinds.setdefault(spec.facts(task.index)[spec.task_type], []).append(task)
    types = {
        str(kind): _figures({t: tasks[t] for t in found}, {t: outcomes[t] for t in found if t in outcomes}, spec)
        for kind, found in sorted(kinds.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    }
    figures = _figures(tasks, outcomes, spec)
    every = [trajectory for tries in tasks.values() for trajectory in tries]
    by_score = spec.metric == "score"
    low, high = figures.score_interval if by_score else figures.success_interval
    return EnvironmentFigures(
        **{key: getattr(figures, key) for key in Figures.__dataclass_fields__},
        versions=versions,
        metric=spec.metric,
        headline=_mean([outcome.headline for outcome in outcomes.values()]),
        headline_interval=(scaled(low, spec), scaled(high, spec)) if by_score else (low, high),
        answers=answers_of(every, {spec.name: spec}),
        ends=ends_of(every),
        task_type=spec.task_type,
        types=types,
    )


def _figures(tasks: Mapping[Task, Sequence[Trajectory]], outcomes: Mapping[Task, Outcome], spec: EnvSpec) -> Figures:
    found = list(outcomes.values())
    episodes = sum(len(tries) for tries in tasks.values())
    finished = sum(outcome.tries for outcome in found)
    shares = [outcome.solved / outcome.tries for outcome in found]
    low, high = spec.score_range
    # a server may answer with a score beyond its range, which no interval can hold
    inside = [min(max((outcome.score - low) / (high - low), 0.0), 1.0) for outcome in found]
    least, most = mean_interval(inside)
    ks = _ks(max((len(tries) for tries in tasks.values()), default=0))
    ended = [t for tries in tasks.values() for t in tries if has_score(t)]
    return Figures(
        tasks=len(tasks),
        episodes=episodes,
        errored=episodes - finished,
        success=_mean(shares),
        success_interval=mean_interval(shares, finished),
        score=_mean([outcome.score for outcome in found]),
        score_interval=(low + least * (high - low), low + most * (high - low)),
        turns=_mean([len(trajectory.turns) for trajectory in ended]),
        pass_at_k={k: _mean([pass_at_k(o.tries, o.solved, k) for o in found if o.tries >= k]) for k in ks},
        pass_hat_k={k: _mean([pass_hat_k(o.tries, o.solved, k) for o in found if o.tries >= k]) for k in ks},
    )


def _ks(tries: int) -> list[int]:
    """1, 2, 4, ... and the number of tries itself."""
    powers = [1 << n for n in range(tries.bit_length())]
    return sorted({k for k in powers if k <= tries} | ({tries} if tries else set()))


def _macro(environments: Mapping[str, EnvironmentFigures], specs: Mapping[str, EnvSpec]) -> Macro:
    parts = environments.items()
    low, high = _limits([(part.success, part.success_interval) for _, part in parts])
    return Macro(
        success=_mean([part.success for _, part in parts]),
        success_interval=(max(0.0, low), min(1.0, high)),  # rounding alone can miss the ends
        score=_mean([None if part.score is None else scaled(part.score, specs[name]) for name, part in parts]),
        headline=_mean([part.headline for _, part in parts]),
        headline_interval=_limits([(part.headline, part.headline_interval) for _, part in parts]),
    )


def _limits(parts: Sequence[tuple[float | None, Interval]]) -> Interval:
    known = [(figure, interval) for figure, interval in parts if figure is not None]
    return combined_interval(known) if known and len(known) == len(parts) else NOTHING_KNOWN


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None if one of the values is not known or there is none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
