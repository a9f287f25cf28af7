"""From played episodes to results: what a policy solved, and whether another solved more.

An episode without a score (the environment or the policy failed) is no failure of the policy and never a number: it
is counted as `errored`, and shares are of the finished tasks only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from agentgym.errors import DataError
from agentgym.evaluation.statistics import Interval, holm, macro_interval, mcnemar_exact, wilson_interval
from envpool.types import Task, Trajectory


@dataclass(frozen=True, slots=True)
class EnvironmentResult:
    """What a policy did in one environment. Shares and means are None where no task was finished.

    Attributes:
        tasks: how many tasks it was given.
        errored: how many of them did not come to an end by themselves.
        success: share of the finished tasks that it solved.
        success_interval: 95 % limits of that share (Wilson).
        score: mean score of the finished tasks, on the environment's own scale.
        turns: mean number of turns of the finished tasks.
    """

    tasks: int
    errored: int
    success: float | None
    success_interval: Interval
    score: float | None
    turns: float | None

    @property
    def finished(self) -> int:
        """How many tasks came to an end by themselves."""
        return self.tasks - self.errored


@dataclass(frozen=True, slots=True)
class MacroResult:
    """Means over environments, each weighing the same. None where an environment finished no task.

    Attributes:
        success: mean of the environments' shares.
        success_interval: its 95 % limits (`macro_interval`).
        score: mean of the environments' mean scores, each scaled to 0..1 by the environment's score range.
    """

    success: float | None
    success_interval: Interval
    score: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy did in all environments.

    Attributes:
        environments: by name, sorted.
        macro: means over the environments.
        solved: every finished task, and whether it was solved; what comparisons pair.
    """

    environments: Mapping[str, EnvironmentResult]
    macro: MacroResult
    solved: Mapping[Task, bool]

    @property
    def tasks(self) -> int:
        """How many tasks were given, over all environments."""
        return sum(result.tasks for result in self.environments.values())

    @property
    def finished(self) -> int:
        """How many of them came to an end by themselves."""
        return sum(result.finished for result in self.environments.values())


@dataclass(frozen=True, slots=True)
class Difference:
    """Two policies on the tasks of one environment that both finished.

    Attributes:
        tasks: how many those are.
        won: solved by the candidate only.
        lost: solved by the baseline only.
        difference: share solved by the candidate minus share solved by the baseline; None without tasks.
        p_value: of McNemar's exact test, adjusted for the number of environments (Holm).
    """

    tasks: int
    won: int
    lost: int
    difference: float | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two policies on all tasks that both finished.

    Attributes:
        baseline: name of one.
        candidate: name of the other.
        tasks: how many tasks both finished.
        won: solved by the candidate only.
        lost: solved by the baseline only.
        difference: macro success of the candidate minus that of the baseline, both on these tasks; None if there is
            an environment in which they have no finished task in common.
        p_value: of McNemar's exact test on `won` and `lost`, all environments pooled. With equally many tasks per
            environment it is the exact test of `difference` itself, which is then (won - lost) / tasks.
        environments: the same for each environment.
    """

    baseline: str
    candidate: str
    tasks: int
    won: int
    lost: int
    difference: float | None
    p_value: float
    environments: Mapping[str, Difference]


def summarize(trajectories: Iterable[Trajectory], score_ranges: Mapping[str, tuple[float, float]]) -> Result:
    """Turns the episodes of one policy, one per task, into its result.

    Args:
        trajectories: in any order; the result does not depend on it.
        score_ranges: smallest and largest score of each environment (`EnvSpec.score_range`).

    Raises:
        DataError: a task was played twice.
    """
    episodes: dict[str, dict[Task, Trajectory]] = {}
    for trajectory in trajectories:
        played = episodes.setdefault(trajectory.task.environment, {})
        if trajectory.task in played:
            raise DataError(f"{trajectory.task.item_id} was measured twice: name the files of one evaluation only")
        played[trajectory.task] = trajectory
    names = sorted(episodes)
    environments = {name: _environment(list(episodes[name].values())) for name in names}
    solved = {
        task: bool(trajectory.success)
        for name in names
        for task, trajectory in sorted(episodes[name].items())
        if _finished(trajectory)
    }
    return Result(environments, _macro(environments, solved, score_ranges), solved)


def compare(baseline: Result, candidate: Result, *, names: tuple[str, str]) -> Comparison:
    """Compares two policies task by task.

    Args:
        baseline: the result to beat.
        candidate: the result that should be better.
        names: how to call the two.
    """
    both = [task for task in baseline.solved if task in candidate.solved]
    environments = sorted({*baseline.environments, *candidate.environments})
    pairs = {
        name: [(baseline.solved[task], candidate.solved[task]) for task in both if task.environment == name]
        for name in environments
    }
    won = {name: sum(new and not old for old, new in pairs[name]) for name in environments}
    lost = {name: sum(old and not new for old, new in pairs[name]) for name in environments}
    gains = [(won[name] - lost[name]) / len(pairs[name]) if pairs[name] else None for name in environments]
    adjusted = holm([mcnemar_exact(won[name], lost[name]) for name in environments])
    return Comparison(
        baseline=names[0],
        candidate=names[1],
        tasks=len(both),
        won=sum(won.values()),
        lost=sum(lost.values()),
        difference=_mean(gains),
        p_value=mcnemar_exact(sum(won.values()), sum(lost.values())),
        environments={
            name: Difference(len(pairs[name]), won[name], lost[name], gain, p_value)
            for name, gain, p_value in zip(environments, gains, adjusted, strict=True)
        },
    )


def _finished(trajectory: Trajectory) -> bool:
    return trajectory.score is not None and trajectory.success is not None


def _environment(trajectories: list[Trajectory]) -> EnvironmentResult:
    scores = [t.score for t in trajectories if t.score is not None and t.success is not None]
    successes = sum(bool(t.success) for t in trajectories if _finished(t))
    return EnvironmentResult(
        tasks=len(trajectories),
        errored=len(trajectories) - len(scores),
        success=successes / len(scores) if scores else None,
        success_interval=wilson_interval(successes, len(scores)),
        score=fmean(scores) if scores else None,
        turns=fmean(len(t.turns) for t in trajectories if _finished(t)) if scores else None,
    )


def _macro(
    environments: Mapping[str, EnvironmentResult],
    solved: Mapping[Task, bool],
    ranges: Mapping[str, tuple[float, float]],
) -> MacroResult:
    counts = [
        (sum(success for task, success in solved.items() if task.environment == name), result.finished)
        for name, result in environments.items()
    ]
    return MacroResult(
        success=_mean([result.success for result in environments.values()]),
        success_interval=macro_interval(counts),
        score=_mean([_scaled(result.score, ranges[name]) for name, result in environments.items()]),
    )


def _scaled(score: float | None, score_range: tuple[float, float]) -> float | None:
    low, high = score_range
    return None if score is None else (score - low) / (high - low)


def _mean(values: list[float | None]) -> float | None:
    """The mean, or None if one of the values is not known or there is none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
