from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from agentgym.errors import DataError
from agentgym.evaluation import measure, pair
from agentgym.evaluation.statistics import (
    Interval,
    combined_interval,
    difference_interval,
    holm,
    mcnemar_exact,
    mean_interval,
    pass_at_k,
    pass_hat_k,
    sign_flip_exact,
    wilson_interval,
)
from envpool import get_spec
from envpool.types import Completion, StopReason, Task, Trajectory, Turn

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=15)
SPECS = {name: get_spec(name) for name in ("maze", "sciworld")}


def episode(name: str, index: int, score: float | None, success: bool | None, turns: int = 1) -> Trajectory:
    turn = Turn(Completion("Action:\nup"), "up", "you went up", score or 0.0)
    stop = StopReason.ERROR if score is None else StopReason.DONE
    return Trajectory(Task(name, index), 0, "model", "", "a maze", (turn,) * turns, stop, score, success)


def outcomes(name: str, solved: list[bool | None]) -> list[Trajectory]:
    return [episode(name, i, None if ok is None else float(ok), ok) for i, ok in enumerate(solved)]


@given(counts, st.floats(0.5, 0.999))
def test_wilson_interval_agrees_with_scipy_and_statsmodels(count, confidence):
    successes, trials = count
    ours = wilson_interval(successes, trials, confidence)
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert ours == pytest.approx(proportion_confint(successes, trials, 1 - confidence, method="wilson"), abs=1e-9)


@given(counts)
def test_wilson_interval_holds_the_share_and_stays_between_0_and_1(count):
    low, high = wilson_interval(*count)
    assert 0 <= low <= count[0] / count[1] <= high <= 1
    assert low < high


def test_nothing_tried_is_nothing_known():
    assert wilson_interval(0, 0) == (0, 1)
    assert mcnemar_exact(0, 0) == 1


@pytest.mark.parametrize("count", [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match="successes of"):
        wilson_interval(*count)
    with pytest.raises(ValueError, match="lost"):
        mcnemar_exact(-1, 2)


def macro(several: list[tuple[int, int]]) -> Interval:
    return combined_interval(
        [(successes / trials, wilson_interval(successes, trials)) for successes, trials in several]
    )


@given(counts)
def test_the_combined_interval_of_one_share_is_its_wilson_interval(count):
    assert macro([count]) == pytest.approx(wilson_interval(*count), abs=1e-12)


@given(st.lists(counts, min_size=1, max_size=14))
def test_the_combined_interval_holds_the_mean_and_is_no_wider_than_the_widest_of_its_parts(several):
    low, high = macro(several)
    assert 0 <= low <= fmean(s / n for s, n in several) + 1e-12
    assert fmean(s / n for s, n in several) - 1e-12 <= high <= 1
    widths = [high - low for low, high in (wilson_interval(*count) for count in several)]
    assert 0 < high - low <= max(widths) + 1e-12


def coverage(shares: list[float], trials: int, rounds: int) -> float:
    rng = random.Random(0)
    held = 0
    for _ in range(rounds):
        drawn = [(sum(rng.random() < share for _ in range(trials)), trials) for share in shares]
        low, high = macro(drawn)
        held += low <= fmean(shares) <= high
    return held / rounds


@pytest.mark.parametrize(
    ("shares", "least"),
    [([0.5, 0.5, 0.5], 0.92), ([0.2, 0.6, 0.9, 0.75], 0.92), ([0.02, 0.99], 0.92), ([0.01, 0.02, 0.01, 0.03], 0.89)],
)
def test_the_combined_interval_holds_the_true_mean_about_95_times_in_100(shares, least):
    # 0.92 and 0.89 lie four standard errors of 1000 rounds below 0.95 and 0.92, what 4000 other rounds gave.
    assert least <= coverage(shares, trials=40, rounds=1000)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_statsmodels_and_scipy(won, lost):
    ours = mcnemar_exact(won, lost)
    assert ours == pytest.approx(mcnemar([[7, won], [lost, 9]], exact=True).pvalue, rel=1e-9, abs=1e-300)
    if won + lost:
        assert ours == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-9, abs=1e-300)


def test_mcnemar_stays_exact_for_many_tasks():
    assert mcnemar_exact(1, 99) == 2 * 101 / 2**100
    assert mcnemar_exact(20_000, 20_000) == 1
    assert mcnemar_exact(3_000, 0) == 2 / 2**3000 == 0


def test_mcnemar_rejects_no_more_often_than_it_says_if_neither_policy_is_better():
    rng = random.Random(0)
    rejected = 0
    for _ in range(2000):
        won = sum(rng.random() < 0.5 for _ in range(40))
        rejected += mcnemar_exact(won, 40 - won) < 0.05
    assert 0.02 < rejected / 2000 <= 0.05


@given(counts)
def test_with_one_try_a_task_the_clustered_interval_is_wilsons(count):
    successes, trials = count
    outcomes = [1.0] * successes + [0.0] * (trials - successes)
    for most in (trials, None):
        assert mean_interval(outcomes, most) == pytest.approx(wilson_interval(successes, trials), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_clustered_interval_holds_the_mean_and_has_a_width(means):
    low, high = mean_interval(means)
    assert 0 <= low <= fmean(means) + 1e-9
    assert fmean(means) - 1e-9 <= high <= 1
    assert low < high


def test_tries_at_the_same_tasks_count_less_than_tasks_of_their_own():
    rng = random.Random(0)
    hard = [rng.random() < 0.5 for _ in range(50)]  # every task is always or never solved
    assert mean_interval([float(solved) for solved in hard], 200) == wilson_interval(sum(hard), 50)
    even = mean_interval([0.5] * 50, 200)  # no task differs from another: as good as tasks of their own, not better
    assert even == wilson_interval(100, 200)


def test_scores_that_are_all_alike_leave_an_interval_as_if_one_task_had_been_all_or_nothing():
    low, high = mean_interval([0.9] * 30)
    assert 0 < high - low < 0.04
    assert mean_interval([]) == (0, 1)
    assert difference_interval([]) == (-1, 1)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        mean_interval([0.5, 1.2])


def test_the_interval_of_spread_scores_is_about_students_and_the_bootstraps():
    scores = np.random.default_rng(0).beta(3, 2, 200)
    ours = mean_interval(scores.tolist())
    student = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    bootstrap = stats.bootstrap((scores,), np.mean, n_resamples=4000, rng=0).confidence_interval
    assert ours == pytest.approx((student.low, student.high), abs=0.003)
    assert ours == pytest.approx((bootstrap.low, bootstrap.high), abs=0.003)


def holds(draw, truth: float, interval, rounds: int = 1000) -> float:
    rng = np.random.default_rng(0)
    intervals = [interval(draw(rng).tolist()) for _ in range(rounds)]
    return fmean(low <= truth <= high for low, high in intervals)


@pytest.mark.parametrize(
    ("draw", "truth", "most"),
    [
        (lambda rng: rng.binomial(4, rng.beta(0.5, 0.5, 60)) / 4, 0.5, 240),  # tasks differ much
        (lambda rng: rng.binomial(4, rng.beta(20, 60, 60)) / 4, 0.25, 240),  # tasks differ little
        (lambda rng: rng.binomial(8, rng.beta(1, 9, 40)) / 8, 0.1, 320),  # few are solved
        (lambda rng: rng.beta(3, 2, 60), 0.6, None),  # scores
        (lambda rng: rng.binomial(1, 0.3, 60) * rng.uniform(0.5, 1, 60), 0.225, None),  # BabyAI: 0, or above 1/2
    ],
    ids=["different", "alike", "hard", "scores", "babyai"],
)
def test_clustered_intervals_hold_the_true_mean_about_95_times_in_100(draw, truth, most):
    # four standard errors of 1000 rounds below 0.95 are 0.922
    assert 0.92 <= holds(draw, truth, lambda means: mean_interval(means, most)) <= 0.98


def test_intervals_of_paired_differences_hold_the_true_difference_about_95_times_in_100():
    def outcomes(rng):
        solves = rng.beta(1, 1, 80)
        return rng.binomial(1, np.minimum(1, solves + 0.1), 80) - rng.binomial(1, solves, 80) + 0.0

    assert 0.92 <= holds(outcomes, 0.095, difference_interval) <= 0.98  # E[min(1, p + 0.1) - p] for p uniform

    def scores(rng):
        return np.clip(rng.normal(0.05, 0.2, 80), -1, 1)

    assert 0.92 <= holds(scores, 0.05, difference_interval) <= 0.98


def test_the_combined_interval_of_differences_may_lie_below_zero():
    low, high = combined_interval([(-0.5, (-0.6, -0.3)), (0.1, (0.0, 0.2))])
    assert low == pytest.approx(-0.2 - math.hypot(0.1, 0.1) / 2)
    assert high == pytest.approx(-0.2 + math.hypot(0.2, 0.1) / 2)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_flipping_signs_of_whole_successes_is_mcnemars_test(won, lost, ties):
    assert sign_flip_exact([1.0] * won + [-1.0] * lost + [0.0] * ties) == mcnemar_exact(won, lost)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=11), st.sampled_from([1, 2, 3, 4, 6]))
def test_flipping_signs_agrees_with_counting_all_ways_to_flip_them(numerators, tries):
    numerators = [max(-tries, min(tries, n)) for n in numerators]
    total = abs(sum(numerators))
    ways = [sum(s * n for s, n in zip(signs, numerators, strict=True)) for signs in _signs(len(numerators))]
    exact = fmean(abs(way) >= total for way in ways)
    assert sign_flip_exact([n / tries for n in numerators]) == pytest.approx(exact, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=1, max_size=5), min_size=2, max_size=2),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([3, 25, 160]),
)
def test_flipping_signs_weighs_environments_of_any_size(several, tries, ratio):
    """A task weighs the less the more its environment has: the unit is small, and no difference is rounded away."""
    whole = [n * ratio for n in several[0]] + several[1]
    ways = [abs(sum(s * n for s, n in zip(signs, whole, strict=True))) for signs in _signs(len(whole))]
    expected = fmean(way >= abs(sum(whole)) for way in ways)
    assert sign_flip_exact([n / (90 * ratio * tries) for n in whole]) == pytest.approx(expected, abs=1e-12)


def test_many_small_differences_are_not_rounded_away_beside_a_few_large_ones():
    few, many = [1.0, 1.0, 1.0, -1.0, -1.0] + [0.0] * 20, [0.3] * 1000
    weighted = [d / len(few) for d in few] + [d / len(many) for d in many]
    assert sign_flip_exact(many) < 1e-300
    # with k of the five large ones positive, at least so many of the small ones have to be
    needed = [
        math.ceil(Fraction(1000, 2) * (1 + (Fraction(34, 100) - Fraction(2 * k - 5, 25)) / Fraction(3, 10)))
        for k in range(6)
    ]
    tail = [stats.binom.sf(n - 1, 1000, 0.5) * stats.binom.pmf(k, 5, 0.5) for k, n in enumerate(needed)]
    assert sign_flip_exact(weighted) == pytest.approx(2 * sum(tail), rel=1e-6)


def test_tiny_p_values_keep_their_digits():
    differences = [1.0] * 300 + [0.5] * 200
    assert sign_flip_exact(differences) == pytest.approx(2 / 2**500, rel=1e-9)


def _signs(n: int):
    return itertools.product((-1, 1), repeat=n)


@pytest.mark.parametrize("seed", range(4))
def test_flipping_signs_agrees_with_scipy(seed):
    scores = np.random.default_rng(seed).normal(0.1, 0.3, 15)
    theirs = stats.permutation_test((scores,), np.mean, permutation_type="samples", n_resamples=2**15).pvalue
    assert sign_flip_exact(scores.tolist()) == pytest.approx(theirs, abs=2e-4)


def test_flipping_signs_of_many_scores_agrees_with_drawn_flips_and_takes_no_time():
    scores = np.random.default_rng(1).normal(0.02, 0.3, 400)
    flips = np.random.default_rng(2).choice([-1, 1], (20_000, 400)) @ scores
    drawn = np.mean(np.abs(flips) >= abs(scores.sum()))
    assert sign_flip_exact(scores.tolist()) == pytest.approx(drawn, abs=0.012)


def test_flipping_signs_knows_no_direction_and_no_scale():
    scores = np.random.default_rng(3).normal(0.1, 0.3, 50)
    p = sign_flip_exact(scores.tolist())
    assert sign_flip_exact((-scores).tolist()) == p
    assert sign_flip_exact((scores * 100).tolist()) == pytest.approx(p, rel=1e-2)
    assert sign_flip_exact([]) == sign_flip_exact([0.0, 0.0]) == sign_flip_exact([0.5, -0.5]) == 1


def test_flipping_signs_rejects_no_more_often_than_it_says_if_neither_policy_is_better():
    rng = np.random.default_rng(0)
    rejected = [sign_flip_exact(rng.laplace(0, 0.2, 19).tolist()) < 0.05 for _ in range(1000)]
    assert 0.03 < fmean(rejected) < 0.07  # within three standard errors of 0.05


triples = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(triples)
def test_pass_at_k_and_pass_hat_k_are_the_shares_of_all_choices_of_k_tries(triple):
    tries, solved, k = triple
    choices = list(itertools.combinations([True] * solved + [False] * (tries - solved), k))
    assert pass_at_k(tries, solved, k) == pytest.approx(fmean(any(choice) for choice in choices))
    assert pass_hat_k(tries, solved, k) == pytest.approx(fmean(all(choice) for choice in choices))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_product_that_chen_and_others_compute(triple):
    tries, solved, k = triple
    theirs = 1.0 if tries - solved < k else 1 - float(np.prod(1 - k / np.arange(tries - solved + 1, tries + 1)))
    assert pass_at_k(tries, solved, k) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("impossible", [(3, 4, 1), (3, 1, 4), (3, 1, 0), (0, 0, 1)])
def test_k_tries_are_not_judged_from_fewer(impossible):
    with pytest.raises(ValueError, match="say nothing about"):
        pass_at_k(*impossible)
    with pytest.raises(ValueError, match="say nothing about"):
        pass_hat_k(*impossible)


@settings(max_examples=20)  # statsmodels collects garbage in every call
@given(p_values)
def test_holm_agrees_with_statsmodels(values):
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist(), abs=1e-12)


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


def test_shares_are_of_the_finished_tasks_and_errors_are_counted_apart():
    result = measure(outcomes("maze", [True, True, False, None, None]), SPECS)
    maze = result.environments["maze"]
    assert (maze.tasks, maze.errored, maze.finished) == (5, 2, 3)
    assert maze.success == maze.score == pytest.approx(2 / 3)
    assert maze.success_interval == wilson_interval(2, 3)
    assert Task("maze", 3) not in result.outcomes
    assert (result.episodes, result.finished) == (5, 3)


def test_an_environment_that_finished_nothing_has_no_share_and_neither_has_the_mean_over_environments():
    result = measure(outcomes("maze", [True, False]) + outcomes("sciworld", [None, None]), SPECS)
    sciworld = result.environments["sciworld"]
    assert (sciworld.success, sciworld.score, sciworld.turns, sciworld.success_interval) == (None, None, None, (0, 1))
    assert (result.macro.success, result.macro.score, result.macro.success_interval) == (None, None, (0, 1))


def test_turns_are_averaged_over_finished_tasks_only():
    played = [episode("maze", 0, 1.0, True, turns=2), episode("maze", 1, 0.0, False, turns=5)]
    assert measure([*played, episode("maze", 2, None, None, turns=90)], SPECS).environments["maze"].turns == 3.5


def test_the_macro_score_puts_every_environment_on_the_same_scale():
    played = [episode("maze", 0, 0.5, False), episode("sciworld", 0, 30.0, False)]
    result = measure(played, SPECS)
    assert result.environments["sciworld"].score == 30
    assert result.macro.score == pytest.approx(0.4)


def test_every_environment_weighs_the_same_in_the_macro_success():
    played = outcomes("maze", [True] * 9 + [False]) + outcomes("sciworld", [False, True])
    assert measure(played, SPECS).macro.success == pytest.approx((0.9 + 0.5) / 2)


def test_the_order_of_the_episodes_does_not_matter():
    played = outcomes("maze", [True, False, None] * 7) + outcomes("sciworld", [False, True] * 5)
    shuffled = random.Random(3).sample(played, len(played))
    ours, theirs = measure(played, SPECS), measure(shuffled, SPECS)
    assert ours == theirs
    assert list(ours.outcomes) == list(theirs.outcomes)
    assert list(ours.environments) == ["maze", "sciworld"]


def test_a_task_measured_twice_is_refused():
    with pytest.raises(DataError, match="maze_0 was measured twice"):
        measure(outcomes("maze", [True]) * 2, SPECS)


def test_comparisons_pair_the_tasks_that_both_finished():
    old = measure(outcomes("maze", [True, False, False, None, False]), SPECS)
    new = measure(outcomes("maze", [False, True, True, True, None]), SPECS)
    found = pair(old, new, names=("old", "new"), by="success")
    assert (found.baseline, found.candidate, found.tasks, found.won, found.lost) == ("old", "new", 3, 2, 1)
    assert found.difference == pytest.approx(1 / 3)
    assert found.p_value == mcnemar_exact(2, 1)


def test_comparisons_are_antisymmetric():
    rng = random.Random(1)
    old, new = (
        measure(outcomes("maze", rng.choices([True, False, None], k=60)) + outcomes("sciworld", [share > 0.5]), SPECS)
        for share in (0.2, 0.8)
    )
    there, back = pair(old, new, names=("a", "b"), by="success"), pair(new, old, names=("b", "a"), by="success")
    assert there.difference == -back.difference
    assert (there.won, there.lost, there.p_value) == (back.lost, back.won, back.p_value)


def test_the_difference_is_that_of_the_macro_successes_when_all_tasks_are_finished():
    rng = random.Random(2)
    old, new = (
        measure(
            outcomes("maze", [rng.random() < share for _ in range(90)])
            + outcomes("sciworld", [rng.random() < share for _ in range(30)]),
            SPECS,
        )
        for share in (0.3, 0.6)
    )
    found = pair(old, new, names=("old", "new"), by="success")
    assert found.difference == pytest.approx(new.macro.success - old.macro.success)
    assert found.tasks == 120


def test_p_values_per_environment_are_adjusted_for_their_number():
    old = measure(outcomes("maze", [False] * 8) + outcomes("sciworld", [False] * 8), SPECS)
    new = measure(outcomes("maze", [True] * 8) + outcomes("sciworld", [True] + [False] * 7), SPECS)
    parts = pair(old, new, names=("old", "new"), by="success").environments
    assert parts["maze"].p_value == pytest.approx(2 * mcnemar_exact(8, 0))
    assert (parts["sciworld"].won, parts["sciworld"].p_value) == (1, 1)


def test_without_common_tasks_in_an_environment_there_is_no_difference():
    old = measure(outcomes("maze", [False, True]) + outcomes("sciworld", [None]), SPECS)
    new = measure(outcomes("maze", [True, True]) + outcomes("sciworld", [True]), SPECS)
    found = pair(old, new, names=("old", "new"), by="success")
    assert found.difference is None
    assert found.environments["sciworld"].difference is None
    assert found.environments["maze"].difference == 0.5
