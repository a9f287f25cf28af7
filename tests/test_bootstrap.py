from __future__ import annotations

import itertools
import os
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_statistics import holds

from agentgym.evaluation.bootstrap import _student, _sums, paired_bootstrap
from agentgym.evaluation.statistics import difference_interval


def babyai(rng, tasks):
    """Each of two players solves a task or does not, and is marked down for its steps."""
    new, old = (rng.binomial(1, share, tasks) * rng.uniform(0.6, 1, tasks) for share in (0.4, 0.3))
    return new - old


def four_tries(rng, tasks):
    return (rng.binomial(4, 0.6, tasks) - rng.binomial(4, 0.5, tasks)) / 4


def unlike_tasks(rng, tasks):
    share = rng.beta(0.5, 0.5, tasks) / 2
    return (rng.binomial(4, share + 0.1, tasks) - rng.binomial(4, share, tasks)) / 4


def one_sided(rng, tasks):
    return np.minimum(rng.exponential(0.1, tasks), 1)


SETTINGS = [(babyai, 0.08), (four_tries, 0.1), (unlike_tasks, 0.1), (one_sided, 0.1 * (1 - np.exp(-10)))]


@pytest.mark.parametrize("tasks", [20, 100])
@pytest.mark.parametrize(("draw", "truth"), SETTINGS, ids=[draw.__name__ for draw, _ in SETTINGS])
def test_it_holds_the_true_difference_about_95_times_in_100(draw, truth, tasks):
    # four standard errors of 250 rounds below 0.95 are 0.895; rare differences may be held more often
    assert holds(lambda rng: draw(rng, tasks), truth, paired_bootstrap, rounds=250) >= 0.895


@pytest.mark.parametrize("draw", [babyai, four_tries, unlike_tasks])
def test_it_agrees_with_the_drawn_bootstrap_of_scipy(draw):
    found = draw(np.random.default_rng(1), 150)
    tails = stats.norm.cdf(-np.sqrt(150 / 149) * stats.t.ppf(0.975, 149))
    theirs = stats.bootstrap(
        (found,), np.mean, n_resamples=40_000, batch=1_000, method="percentile", confidence_level=1 - 2 * tails, rng=0
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert paired_bootstrap(found.tolist()) == pytest.approx((theirs.low, theirs.high), abs=spread / 50)


def test_all_resamples_are_counted():
    differences = [0, 1, 1, 3, 7]
    chances = np.bincount(differences, minlength=8) / 5
    ways = [sum(resample) for resample in itertools.product(differences, repeat=5)]
    assert _sums(chances, 5) == pytest.approx(np.bincount(ways, minlength=36) / 5**5, abs=1e-15)


@given(st.integers(4, 2000), st.floats(0.8, 0.99))
def test_students_quantile_agrees_with_scipy(freedom, confidence):
    assert _student(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=0.01)


some = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=30)


@given(some)
def test_it_holds_the_mean_has_a_width_and_knows_no_direction(differences):
    low, high = paired_bootstrap(differences)
    assert low <= fmean(differences) <= high
    assert low < high
    assert paired_bootstrap([-d for d in differences]) == (-high, -low)
    narrow_low, narrow_high = difference_interval(differences)
    assert low <= narrow_low < narrow_high <= high


@pytest.mark.parametrize(
    "differences", [[1.0, 0.875, -1.0], [-1.0, 0.875, 1.0], [0.5, 0.25, -0.25, -1.0], [1e-9, -1.0], [3.0, -5.0, 0.1]]
)
def test_with_all_signs_changed_the_limits_are_exactly_those_of_the_other_side(differences):
    for limits in (paired_bootstrap, difference_interval):
        low, high = limits(differences)
        assert limits([-d for d in differences]) == (-high, -low)


def test_no_random_set_has_a_direction():
    rng = np.random.default_rng(0)
    for _ in range(300):
        differences = rng.choice([rng.uniform(-1, 1, 40), rng.integers(-8, 9, 40) / 8])[: rng.integers(2, 40)]
        low, high = paired_bootstrap(differences.tolist())
        assert paired_bootstrap((-differences).tolist()) == (-high, -low)


def test_differences_that_are_all_alike_leave_a_width_and_none_leaves_all_open():
    assert paired_bootstrap([0.25] * 50) == difference_interval([0.25] * 50)
    assert paired_bootstrap([]) == (-1, 1)


def test_thousands_of_tasks_are_no_trouble():
    scores = np.random.default_rng(0).normal(0.05, 0.2, 5_000)
    low, high = paired_bootstrap(scores.tolist())
    student = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((student.low, student.high), abs=2e-4)


@pytest.mark.skipif("HYPOTHESIS_PROFILE" in os.environ, reason="a profile was asked for")
def test_examples_are_the_same_in_every_run():
    assert settings.default.derandomize
    assert settings.default.database is None
    assert settings.default.deadline is None
