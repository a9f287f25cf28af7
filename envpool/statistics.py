"""What a pool is doing and has done, in numbers that take no more room after a million turns than after ten."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from envpool.types import StopReason


@dataclass(frozen=True, slots=True)
class Statistics:
    """A pool at one moment.

    Attributes:
        live: episodes being played now, those that wait for their policy or for the consumer included.
        waiting: of these, the ones that wait for their policy.
        finished: ended episodes by stop reason.
        turns: answers of environments so far.
        corrections: answers of policies that held no readable action and were corrected.
        seconds: time since the pool's first run began, not counting the time between runs.
        latency: seconds that an environment took for an answer, by percentile (50, 90, 99); within 5 %.
        retries: requests to servers that were repeated.
        replays: sessions that were lost and played again from their reset.
        abandoned: sessions of this machine that were left alone in a call that hung; the thread of each is there until
            its call comes back.
        errors: failures by kind, those that a retry or a replay healed included.
    """

    live: int
    waiting: int
    finished: Mapping[StopReason, int]
    turns: int
    corrections: int
    seconds: float
    latency: Mapping[int, float]
    retries: int
    replays: int
    abandoned: int
    errors: Mapping[str, int]

    @property
    def turns_per_second(self) -> float:
        """Turns per second, over all time of running."""
        return self.turns / self.seconds if self.seconds else 0.0


PERCENTILES = (50, 90, 99)
_GROWTH = 1.1  # a bucket ends at 1.1 times its start, and its middle stands for it: off by 5 % at most
_LOG_GROWTH = math.log(_GROWTH)
_SHORTEST = 1e-6


@dataclass(slots=True)
class Recorder:
    """Where pool, episodes and transports write down what happens.

    Attributes:
        clock: seconds, as trio counts them.
    """

    clock: Callable[[], float]
    live: int = 0
    waiting: int = 0
    turns: int = 0
    corrections: int = 0
    retries: int = 0
    replays: int = 0
    abandoned: int = 0
    finished: Counter[StopReason] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    _latency: Counter[int] = field(default_factory=Counter)
    _runs: int = 0
    _began: float = 0.0
    _ran: float = 0.0

    def begin(self) -> None:
        """A run begins."""
        if not self._runs:
            self._began = self.clock()
        self._runs += 1

    def end(self) -> None:
        """A run has ended."""
        self._runs -= 1
        if not self._runs:
            self._ran += self.clock() - self._began

    def turn(self, seconds: float) -> None:
        """An environment answered an action after `seconds`."""
        self.turns += 1
        self._latency[int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _LOG_GROWTH)] += 1

    def failed(self, error: BaseException) -> None:
        """Something failed, healed afterwards or not."""
        self.errors[type(error).__name__] += 1

    def statistics(self) -> Statistics:
        """The numbers as they are now."""
        return Statistics(
            live=self.live,
            waiting=self.waiting,
            finished=dict(self.finished),
            turns=self.turns,
            corrections=self.corrections,
            seconds=self._ran + (self.clock() - self._began if self._runs else 0.0),
            latency={percent: self._percentile(percent) for percent in PERCENTILES},
            retries=self.retries,
            replays=self.replays,
            abandoned=self.abandoned,
            errors=dict(self.errors),
        )

    def _percentile(self, percent: int) -> float:
        wanted = self._latency.total() * percent / 100
        for bucket in sorted(self._latency):
            wanted -= self._latency[bucket]
            if wanted <= 0:
                return float(_SHORTEST * _GROWTH ** (bucket + 0.5))
        return 0.0
