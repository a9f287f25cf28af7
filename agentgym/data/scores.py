"""Whether the rewards of a data set are on the scale of their environment's scores."""

from __future__ import annotations

from dataclasses import dataclass

from envpool import environments, get_spec


class BeyondScores(ValueError):
    """A reward is beyond the scores of its environment.

    Attributes:
        environment: the environment.
    """

    def __init__(self, environment: str, text: str) -> None:
        super().__init__(text)
        self.environment = environment


def check_score(environment: str, score: float) -> None:
    """Makes sure that a score is one that the environment gives, where the environment is known.

    Raises:
        BeyondScores: it is beyond them, as on another scale.
    """
    if environment not in environments():
        return
    low, high = get_spec(environment).score_range
    slack = 1e-6 * (high - low)
    if low - slack <= score <= high + slack:
        return
    percent = " (is it a percentage?)" if high == 1 and 1 < score <= 100 else ""
    cure = "bring the rewards to that scale"
    raise BeyondScores(
        environment, f"the reward {score:g} is beyond {environment}'s scores, {low:g} to {high:g}{percent}: {cure}"
    )


@dataclass(slots=True)
class Scores:
    """The rewards of one environment in one file.

    Attributes:
        read: how many were read.
        beyond: how many others are beyond the environment's scores.
        low: the smallest one, or 0.
        high: the largest one, or 0.
    """

    read: int = 0
    beyond: int = 0
    low: float = 0.0
    high: float = 0.0

    def add(self, score: float) -> None:
        """Counts a reward."""
        self.read += 1
        self.low, self.high = min(self.low, score), max(self.high, score)

    def note(self, environment: str, name: str) -> str:
        """Says if they look like those of another scale; empty if not."""
        low, high = get_spec(environment).score_range
        if self.beyond and (self.low, self.high) != (0, 0):
            return (
                f"{self.beyond:,} of {self.read + self.beyond:,} rewards of {environment} in {name} are beyond its "
                f"scores, {low:g} to {high:g}: the others may be on another scale, too"
            )
        if high > 1 and self.low >= 0 and 0 < self.high <= 1:
            return (
                f"all rewards of {environment} in {name} lie between 0 and 1, and its scores go from {low:g} to "
                f"{high:g}: if they are on another scale, multiply them"
            )
        return ""
