"""Whether one player is better than another: both on the same tasks, environment by environment.

What is compared is each environment's own metric, or success in all of them. A task is one observation, however often
it was tried: the mean over the candidate's tries minus the mean over the baseline's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any, Literal

from agentgym.errors import DataError
from agentgym.evaluation.bootstrap import paired_bootstrap
from agentgym.evaluation.players import Outcome, Played
from agentgym.evaluation.statistics import Interval, combined_interval, difference_interval, holm, sign_flip_exact
from envpool.types import Task

LEVEL = 0.05
"""Adjusted p-values below it count as evidence."""


class Verdict(StrEnum):
    """What a comparison says about the candidate."""

    BETTER = "better"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence"
    NO_PAIRS = "no pairs"  # no task was finished by both


@dataclass(frozen=True, slots=True)
class Pair:
    """Two players in one environment.

    Attributes:
        tasks: how many tasks both finished at least once.
        given: how many tasks one of them was given at least.
        won: tasks on which the candidate's mean is higher.
        lost: tasks on which the baseline's is.
        difference: mean difference of the share solved, or of the score, scaled as `EnvironmentFigures.headline`;
            None without pairs.
        interval: its 95 % limits, without regard to other environments: by `difference_interval` where every
            difference is a whole success, else by `paired_bootstrap`.
        p_value: of the exact paired test, adjusted for the number of environments (Holm).
        test: ``McNemar`` where every difference is a whole success, else ``sign flips``.
        metric: what was compared, ``success`` or ``score``.
        verdict: what it comes to.
    """

    tasks: int
    given: int
    won: int
    lost: int
    difference: float | None
    interval: Interval
    p_value: float
    test: str
    metric: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two players in all environments that both played.

    Attributes:
        baseline: name of one.
        candidate: name of the other.
        tasks: how many tasks both finished.
        given: how many tasks one of them was given at least.
        won: tasks on which the candidate's mean is higher.
        lost: tasks on which the baseline's is.
        difference: mean of the environments' differences; None if in one of them there is no pair.
        interval: its 95 % limits.
        p_value: of the exact test (sign flips) of `difference`.
        environments: by name, sorted.
    """

    baseline: str
    candidate: str
    tasks: int
    given: int
    won: int
    lost: int
    difference: float | None
    interval: Interval
    p_value: float
    environments: Mapping[str, Pair]

    def named(self, verdict: Verdict) -> list[str]:
        """The environments with this verdict."""
        return [name for name, pair in self.environments.items() if pair.verdict == verdict]

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        environments = {name: {**asdict(p), "interval": list(p.interval)} for name, p in self.environments.items()}
        return {**asdict(self), "interval": list(self.interval), "environments": environments}

    def words(self) -> str:
        """Says in one sentence what it comes to."""
        found = {verdict: self.named(verdict) for verdict in Verdict}
        parts = [
            f"{verdict} on {len(names)}" + (f" ({', '.join(names)})" if names else "")
            for verdict, names in found.items()
            if names or verdict != Verdict.NO_PAIRS
        ]
        return (
            f"{self.candidate} against {self.baseline}: {', '.join(parts)}; pairs: {self.tasks} of {self.given} tasks."
        )


def pair(
    baseline: Played, candidate: Played, *, names: tuple[str, str], by: Literal["metric", "success"] = "metric"
) -> Pairing:
    """Compares two players task by task, in the environments that both played.

    Args:
        baseline: the one to beat.
        candidate: the one that should be better.
        names: how to call the two.
        by: each environment's own metric, or success in all of them.

    Raises:
        DataError: they played different versions of an environment, or have no finished task in common.
    """
    shared = sorted(baseline.environments.keys() & candidate.environments.keys())
    for name in shared:
        _check_versions(name, baseline, candidate, names)
    metrics = {name: "success" if by == "success" else candidate.environments[name].metric for name in shared}
    differences = {name: _differences(name, metrics[name], baseline, candidate) for name in shared}
    if not any(differences.values()):
        raise DataError(f"{names[0]} and {names[1]} have no finished task in common: play the same tasks with both")
    tested = [name for name in shared if differences[name]]
    adjusted = dict(zip(tested, holm([sign_flip_exact(differences[name]) for name in tested]), strict=True))
    given = {name: sum(t.environment == name for t in baseline.given | candidate.given) for name in shared}
    pairs = {name: _pair(differences[name], given[name], adjusted.get(name, 1.0), metrics[name]) for name in shared}
    found = [(p.difference, p.interval) for p in pairs.values() if p.difference is not None]
    whole = len(found) == len(shared)
    # each environment weighs the same, so a task weighs the more the fewer there are
    weighted = [difference / len(differences[name]) for name in tested for difference in differences[name]]
    return Pairing(
        baseline=names[0],
        candidate=names[1],
        tasks=sum(p.tasks for p in pairs.values()),
        given=sum(p.given for p in pairs.values()),
        won=sum(p.won for p in pairs.values()),
        lost=sum(p.lost for p in pairs.values()),
        difference=fmean(difference for difference, _ in found) if whole else None,
        interval=combined_interval(found) if whole else (-1.0, 1.0),
        p_value=sign_flip_exact(weighted) if whole else 1.0,
        environments=pairs,
    )


def _check_versions(name: str, baseline: Played, candidate: Played, names: tuple[str, str]) -> None:
    sides = [played.environments[name].versions for played in (baseline, candidate)]
    if sides[0] != sides[1] or len(sides[0]) > 1:
        old, new = (" and ".join(versions) for versions in sides)
        raise DataError(
            f"{name} was played in version {old} by {names[0]} and in version {new} by {names[1]}: "
            "their numbers cannot be compared, measure both anew"
        )


def _differences(name: str, metric: str, baseline: Played, candidate: Played) -> list[float]:
    def figure(outcome: Outcome) -> float:
        return outcome.solved / outcome.tries if metric == "success" else outcome.headline

    both: list[Task] = [t for t in baseline.outcomes if t.environment == name and t in candidate.outcomes]
    return [figure(candidate.outcomes[task]) - figure(baseline.outcomes[task]) for task in both]


def _pair(differences: Sequence[float], given: int, p_value: float, metric: str) -> Pair:
    difference = fmean(differences) if differences else None
    if difference is None:
        verdict = Verdict.NO_PAIRS
    elif p_value >= LEVEL:
        verdict = Verdict.NO_EVIDENCE
    else:
        verdict = Verdict.BETTER if difference > 0 else Verdict.WORSE
    whole = all(abs(d) in (0, 1) for d in differences)
    return Pair(
        tasks=len(differences),
        given=given,
        won=sum(d > 0 for d in differences),
        lost=sum(d < 0 for d in differences),
        difference=difference,
        interval=difference_interval(differences) if whole else paired_bootstrap(differences),
        p_value=p_value,
        test="McNemar" if whole else "sign flips",
        metric=metric,
        verdict=verdict,
    )
