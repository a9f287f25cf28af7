"""What AgentEvol learns from: which explored trajectories are kept (the E-step of arXiv 2406.04151, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentgym.evaluation.ends import has_score
from agentgym.settings import Dedup, EnvironmentSettings
from agentgym.values import member
from envpool import Trajectory


def keep(
    explored: Iterable[Trajectory],
    environments: Mapping[str, EnvironmentSettings],
    dedup: Dedup,
    carried: Iterable[Trajectory] = (),
) -> list[Trajectory]:
    """Keeps the explored trajectories that are worth learning from, in the order given.

    Of those that `dedup` counts as the same, the one with the fewest turns is kept, the earliest of several such. Of
    the explored ones an environment's `cap` keeps the first.

    Args:
        explored: what was tried in this iteration.
        environments: the recipe's settings by environment name.
        dedup: which successes count as the same.
        carried: what was kept in earlier iterations and goes first.
    """
    dedup = member(Dedup, dedup, "evol.dedup")
    before = list(carried)
    old = {id(trajectory) for trajectory in before}
    worth = [t for t in (*before, *explored) if is_worth(t, environments[t.task.environment])]
    best: dict[object, Trajectory] = {}
    for number, trajectory in enumerate(worth):
        key = _key(trajectory, number, dedup)
        if key not in best or len(trajectory.turns) < len(best[key].turns):
            best[key] = trajectory
    kept: list[Trajectory] = []
    counts: dict[str, int] = {}
    for trajectory in best.values():
        name = trajectory.task.environment
        if id(trajectory) in old:
            kept.append(trajectory)
            continue
        counts[name] = counts.get(name, 0) + 1
        cap = environments[name].cap
        if cap is None or counts[name] <= cap:
            kept.append(trajectory)
    return kept


def is_worth(trajectory: Trajectory, settings: EnvironmentSettings) -> bool:
    """Whether a trajectory is worth learning from.

    It is if the environment's success rule says so, or if its score is greater than the environment's `keep_above`;
    what did not end by itself has no score, and neither has one whose score is no number: neither is kept.
    """
    if trajectory.score is None or not has_score(trajectory):
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
