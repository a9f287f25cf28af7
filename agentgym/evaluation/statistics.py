"""How sure a number is: intervals and exact tests for shares of solved tasks, and for scores.

Shares, and scores scaled by their range, are between 0 and 1. Everything here is a closed form or an exact sum: no
random numbers, hence the same figures in every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist, fmean

import numpy as np

Interval = tuple[float, float]
"""Lower and upper limit."""


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Limits of a share, by Wilson's score method (J. Am. Stat. Assoc. 22, 1927, p. 209).

    Unlike the textbook interval it stays within 0 to 1 and has a width at 0 % and 100 % too.

    Args:
        successes: how many of `trials` succeeded.
        trials: how many were tried; 0 gives (0, 1), for then nothing is known.
        confidence: how often such an interval holds the true share, about.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    return _wilson(successes / trials, trials, confidence) if trials else (0.0, 1.0)


def _wilson(share: float, trials: float, confidence: float) -> Interval:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    # The limits at the ends are exactly 0 and 1; rounding would miss them by 1e-17.
    return (max(0.0, centre - half) if share else 0.0), (min(1.0, centre + half) if share < 1 else 1.0)


def mean_interval(means: Sequence[float], most: float | None = None, confidence: float = 0.95) -> Interval:
    """Limits of the mean over tasks, clustered by task: however often a task was tried, it is one observation.

    Wilson's interval with the number of trials that the spread over tasks amounts to (the effective sample size of
    Korn and Graubard, Surv. Methodol. 24, 1998, p. 193): m (1 - m) n / s^2 for n tasks with mean m and variance s^2.
    With one try a task and outcomes of 0 and 1 it is Wilson's interval itself. The effective number is never below n,
    for no values between 0 and 1 vary more than those that are all 0 or 1.

    Args:
        means: one value a task, between 0 and 1: the mean over its tries.
        most: upper limit of the effective number, as in the number of tries of all tasks; n^2 if None, that is, the
            variance is never taken to be smaller than if one task of the n had been all or nothing.
        confidence: how often such an interval holds the true mean, about.

    Returns:
        The limits; (0, 1) without a task.
    """
    if any(not 0 <= value <= 1 for value in means):
        raise ValueError("a mean is not between 0 and 1")
    n = len(means)
    if n == 0:
        return 0.0, 1.0
    mean = fmean(means)
    spread = math.fsum((value - mean) ** 2 for value in means) / (n - 1) / n if n > 1 else math.inf
    limit = n * n if most is None else max(n, most)
    trials = min(max(mean * (1 - mean) / spread, n), limit) if spread else limit
    return _wilson(mean, trials if 0 < mean < 1 else n, confidence)


def difference_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """Limits of the mean paired difference; `mean_interval` on the scale from -1 to 1, or to the largest difference.

    With all signs changed they are exactly those of the other side: each is the mean of both directions, which are
    rounded otherwise.

    Args:
        differences: one a task.
        confidence: how often such an interval holds the true difference, about.

    Returns:
        The limits; (-1, 1) without a task.
    """
    reach = max(1.0, *map(abs, differences)) if differences else 1.0
    low, high = mean_interval([(1 + difference / reach) / 2 for difference in differences], None, confidence)
    down, up = mean_interval([(1 - difference / reach) / 2 for difference in differences], None, confidence)
    return (low - up) * reach, (high - down) * reach


def combined_interval(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Limits of the mean of independent figures from the limits of each, every figure weighing the same.

    The method of variance estimates recovery (Zou and Donner, Stat. Med. 27, 2008, p. 1693): the distances from each
    figure to its limits are added like standard errors. With one figure it is that one's interval; with several it
    keeps a width where all shares are 0 or 1, which a normal approximation or a bootstrap does not. In simulations
    with Wilson's limits of 40 to 105 trials it held the true mean in 93 to 96 of 100 cases where shares were between
    0.1 and 0.98, and in 92 where four were below 0.03; eleven shares of 0.02 at once are its worst case, with 89.

    Args:
        parts: each figure and its limits; at least one.
    """
    below = math.hypot(*(figure - low for figure, (low, _) in parts))
    above = math.hypot(*(high - figure for figure, (_, high) in parts))
    mean = fmean(figure for figure, _ in parts)
    return mean - below / len(parts), mean + above / len(parts)


def mcnemar_exact(won: int, lost: int) -> float:
    """Two-sided p-value of McNemar's test (Psychometrika 12, 1947, p. 153) in its exact form.

    Two policies played the same tasks. Tasks that both solved or both failed say nothing about which is better; of
    the others each is won by either with probability 1/2 if neither is better.

    Args:
        won: tasks that only the candidate solved.
        lost: tasks that only the baseline solved.

    Returns:
        The probability of a split at least as uneven as this one if neither is better; 1 if there is no such task.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} tasks won and {lost} lost")
    n = won + lost
    ways = tail = 1  # to lose none of n; then to lose k of them, and at most k of them
    for k in range(1, min(won, lost) + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return min(1.0, 2 * tail / (1 << n))  # whole numbers up to the last division: exact for any n


def sign_flip_exact(differences: Sequence[float]) -> float:
    """Two-sided p-value of the paired permutation test (Fisher's), clustered by task, in its exact form.

    If neither policy is better, each task's difference would have come with the other sign as probably. The test
    statistic is the sum; all 2^n ways to sign the differences are counted, none is drawn at random. With differences
    of -1 and 1 it is McNemar's exact test.

    Differences that are whole multiples of a common unit (successes, means of a few tries, also divided by the number
    of an environment's tasks) are taken as they are; others are rounded to about a millionth of the sum of their sizes,
    less finely where there are more than 400. Rounded differences are as symmetric as the others, hence the test stays
    exact; it takes less than a second.

    Args:
        differences: one a task: the mean over the candidate's tries minus that over the baseline's.

    Returns:
        The probability of a sum at least as far from 0 as this one if neither is better; 1 without differences.
    """
    steps = _steps(differences)
    sizes = [abs(step) for step in steps if step]
    if not (total := sum(steps)):
        return 1.0
    if len(set(sizes)) == 1:
        won = sum(step > 0 for step in steps)
        return mcnemar_exact(won, len(sizes) - won)
    # To sign them at random is to draw a subset that counts negatively; the sum is at most -|total| or at least
    # |total| if that subset's sum is beyond either of two limits, which mirror each other.
    limit = (sum(sizes) - abs(total)) // 2
    chances = np.zeros(limit + 1)  # of each sum of the subset, as far as they matter; only added up: none is lost
    chances[0], reach = 1.0, 0
    for size in sorted(sizes):  # so that sums stay small for long
        reach = min(reach + size, limit)
        chances[: reach + 1] /= 2
        if size <= limit:
            chances[size : reach + 1] += chances[: reach + 1 - size].copy()
    return min(1.0, 2 * float(chances.sum()))


_GRID = 1 << 20
"""Most steps of all differences together."""

_WORK = 4 * 10**8
"""Most additions that a test takes, about."""


def _steps(differences: Sequence[float]) -> list[int]:
    """The differences in steps of a common unit; where they have none, rounded to a fine one."""
    size = math.fsum(map(abs, differences))
    if size == 0:
        return []
    most = min(_GRID, _WORK // len(differences))
    parts = [Fraction(difference).limit_denominator(100_000) for difference in differences]
    if all(abs(part - Fraction(d)) < Fraction(1, 10**14) for part, d in zip(parts, differences, strict=True)):
        unit = math.lcm(*(part.denominator for part in parts))
        if unit * size <= most:
            return [int(part * unit) for part in parts]
    return [round(difference * most / size) for difference in differences]


def pass_at_k(tries: int, solved: int, k: int) -> float:
    """Unbiased estimate of the probability that at least one of `k` tries solves a task.

    ``1 - C(n - c, k) / C(n, k)`` for c of n tries solved (Chen et al., arXiv 2107.03374, eq. 1).

    Raises:
        ValueError: there were fewer than `k` tries, or more solved than tried.
    """
    _check_tries(tries, solved, k)
    return 1 - math.comb(tries - solved, k) / math.comb(tries, k)


def pass_hat_k(tries: int, solved: int, k: int) -> float:
    """Unbiased estimate of the probability that all of `k` tries solve a task (pass^k).

    ``C(c, k) / C(n, k)`` for c of n tries solved (Yao et al., arXiv 2406.12045).

    Raises:
        ValueError: there were fewer than `k` tries, or more solved than tried.
    """
    _check_tries(tries, solved, k)
    return math.comb(solved, k) / math.comb(tries, k)


def _check_tries(tries: int, solved: int, k: int) -> None:
    if not (0 <= solved <= tries and 1 <= k <= tries):
        raise ValueError(f"{solved} of {tries} tries solved say nothing about {k}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values of several tests for their number, by Holm's method (Scand. J. Stat. 6, 1979, p. 65).

    Whoever calls those below 0.05 real errs in any of them with a probability of at most 0.05, however they depend
    on each other.

    Returns:
        The adjusted p-values in the order given.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
