"""What AgentEvol learns from: which explored trajectories are kept (the E-step of arXiv 2406.04151, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentgym.settings import Dedup, EnvironmentSettings
from envpool import Trajectory


def keep(
    explored: Iterable[Trajectory], environments: Mapping[str, EnvironmentSettings], dedup: Dedup
) -> list[Trajectory]:
    """Keeps the explored trajectories that are worth learning from, in the order given.

    A trajectory is worth it if the environment's success rule says so, or if its score is greater than the
    environment's `keep_above`; what did not end by itself has no score and is never kept. Of those that `dedup`
    counts as the same, the one with the fewest turns is kept, the earliest of several such. An environment's `cap`
    keeps its first.

    Args:
        explored: what was tried.
        environments: the recipe's settings by environment name.
        dedup: which successes count as the same.
    """
    worth = [trajectory for trajectory in explored if _worth(trajectory, environments[trajectory.task.environment])]
    best: dict[object, Trajectory] = {}
    for number, trajectory in enumerate(worth):
        key = _key(trajectory, number, dedup)
        if key not in best or len(trajectory.turns) < len(best[key].turns):
            best[key] = trajectory
    kept: list[Trajectory] = []
    counts: dict[str, int] = {}
    for trajectory in best.values():
        name = trajectory.task.environment
        counts[name] = counts.get(name, 0) + 1
        cap = environments[name].cap
        if cap is None or counts[name] <= cap:
            kept.append(trajectory)
    return kept


def _worth(trajectory: Trajectory, settings: EnvironmentSettings) -> bool:
    if trajectory.score is None:
        return False
    return bool(trajectory.success) if settings.keep_above is None else trajectory.score > settings.keep_above


def _key(trajectory: Trajectory, number: int, dedup: Dedup) -> object:
    match dedup:
        case Dedup.none:
            return number
        case Dedup.task:
            return trajectory.task
        case Dedup.text:
            return trajectory.task, tuple(turn.completion.text for turn in trajectory.turns)
