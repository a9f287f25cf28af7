"""How episodes ended: how many were solved, why the others were not, and what made episodes fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agentgym.errors import NothingFinished
from agentgym.evaluation.answers import alike, ranked
from envpool import StopReason, Trajectory

WORDS: Mapping[StopReason, str] = {
    StopReason.DONE: "end without success",
    StopReason.MAX_TURNS: "turn limit",
    StopReason.CONTEXT_FULL: "context full",
    StopReason.TIMEOUT: "timeout",
    StopReason.ERROR: "error",
    StopReason.CANCELLED: "cancelled",
}
"""How stop reasons of episodes that were not solved are called."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How the episodes of a policy ended.

    Attributes:
        solved: how many succeeded.
        unsolved: how many came to an end by themselves without success, by stop reason; the most frequent first.
        errored: how many did not come to an end by themselves, by stop reason; the most frequent first.
        causes: what made these fail, and how often; the most frequent first, at most `answers.MOST`.
    """

    solved: int = 0
    unsolved: Mapping[str, int] = field(default_factory=dict)
    errored: Mapping[str, int] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        """How many came to an end by themselves."""
        return self.solved + sum(self.unsolved.values())

    def to_json(self) -> dict[str, Any]:
        """In types that JSON has."""
        return asdict(self)

    def __str__(self) -> str:
        """As in ``12 by turn limit, 3 by error``; empty if all were solved."""
        stops = {**self.unsolved, **self.errored}
        return ", ".join(f"{count:,} by {WORDS[StopReason(stop)]}" for stop, count in stops.items())


LARGEST = 1e100
"""Scores beyond it are no numbers: what is computed from them is beyond what floats hold."""


def has_score(trajectory: Trajectory) -> bool:
    """Whether an episode came to an end by itself, with a score that is a number."""
    score = trajectory.score
    if score is None or trajectory.success is None:
        return False
    return -LARGEST < score < LARGEST


def ends_of(trajectories: Iterable[Trajectory]) -> Ends:
    """Counts how these episodes ended."""
    solved, unsolved, errored, causes = 0, Counter[str](), Counter[str](), Counter[str]()
    for trajectory in trajectories:
        if not has_score(trajectory):
            errored[str(trajectory.stop)] += 1
            if trajectory.error:
                causes[trajectory.error] += 1
        elif trajectory.success:
            solved += 1
        else:
            unsolved[str(trajectory.stop)] += 1
    return Ends(
        solved=solved,
        unsolved=dict(ranked(unsolved)),
        errored=dict(ranked(errored)),
        causes=alike(causes),
    )


def counted(texts: Mapping[str, int]) -> str:
    """As in ``12x open: no server answers; 3x took more than 60 s``."""
    return "; ".join(f"{count:,}x {text}" for text, count in texts.items())


def check_any_finished(named: Mapping[str, Ends]) -> None:
    """Makes sure that at least one episode came to an end by itself, if there are any.

    Args:
        named: how the episodes of each policy ended, by how they are called.

    Raises:
        NothingFinished: none did; says what made them fail, one line a policy.
    """
    failed = {name: ends for name, ends in named.items() if ends.errored}
    if not failed or any(ends.finished for ends in named.values()):
        return
    raise NothingFinished(
        "\n".join(
            f"{name}: none of {sum(ends.errored.values()):,} episodes finished ({counted(ends.causes) or ends}); mend "
            "the cause and repeat the command, which tries them again"
            for name, ends in failed.items()
        )
    )
