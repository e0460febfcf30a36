"""Scores and their intervals, with numbers that can be worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from proximo.runs.statistics import (
    band,
    estimate,
    improvement,
    interquartile_mean,
    mean,
    mean_of,
    normalised,
    scale_of,
    spread,
)


def arrays(*samples):
    return [np.array(sample, dtype=float) for sample in samples]


# ---- normalisation


def test_normalised():
    # Random -40, best -5: -12 is (-12 + 40) / (-5 + 40) = 28 / 35 = 0.8.
    assert normalised(-12.0, -40.0, -5.0) == pytest.approx(0.8)
    assert normalised(-40.0, -40.0, -5.0) == 0.0
    assert normalised(-75.0, -40.0, -5.0) == -1.0  # worse than random, by as much as the best is better


def test_the_best_single_run_is_1_and_the_random_policy_0():
    assert scale_of(-40.0, [-12.0, -5.0, -30.0]) == (-40.0, -5.0)


@pytest.mark.parametrize("scores", [[], [-50.0], [-40.0]])
def test_there_is_no_scale_before_a_run_beats_the_random_policy(scores):
    assert scale_of(-40.0, scores) is None


# ---- means and their intervals


def test_the_mean_is_over_all_runs():
    # (0 + 1 + 2 + 4 + 8) / 5 = 3
    assert mean(arrays([0, 1, 2], [4, 8])).value == 3.0


def test_below_five_runs_the_interval_is_students_t_from_five_on_the_bootstrap():
    # 1, 2, 6: mean 3, standard deviation sqrt 7; t of 2 degrees of freedom is 4.303.
    found = mean(arrays([1, 2, 6]))
    assert found[:3] == pytest.approx((3, 3 - 4.303 * (7 / 3) ** 0.5, 3 + 4.303 * (7 / 3) ** 0.5), abs=2e-3)
    assert found.method == "Student's t"
    # Two environments: deviations of 1 around 1 and around 11, 4 - 2 = 2 degrees of freedom, so the variance
    # is (1 + 1 + 1 + 1) / 2 = 2, and the mean's 2 / 4.
    found = mean(arrays([0, 2], [10, 12]))
    assert found[:3] == pytest.approx((6, 6 - 4.303 * 0.5**0.5, 6 + 4.303 * 0.5**0.5), abs=1e-3)
    found = mean_of([0.0, 0.0, 0.0, 0.0, 1.0])
    assert found.method == "bootstrap" and (found.low, found.value) == (0.0, 0.2)
    assert found.interval() == "95% interval 0.0 to 0.6, bootstrap"
    # Of a share or of a middle there is no t: it has no interval before there are five.
    assert interquartile_mean(arrays([1, 2, 6]))[1:] == (None, None, None)


def test_the_bootstrap_is_stratified():
    # The runs of each environment agree, so drawing them again changes nothing. Drawn from one urn, the
    # mean would lie anywhere from 0 to 1.
    assert mean(arrays([0, 0, 0], [1, 1, 1])) == (0.5, 0.5, 0.5, "bootstrap")


def test_the_interval_of_very_many_runs_takes_little_memory():
    many = np.random.default_rng(0).normal(size=20_000)
    found = mean_of(many)
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20_000**0.5, rel=0.1)


def test_the_interval_of_many_runs_is_that_of_the_normal_distribution():
    # Standard error of the mean of two independent strata of n runs each: s / sqrt(2 n).
    n = 200
    runs = [np.random.default_rng(i).normal(size=n) for i in range(2)]
    value, low, high, _ = mean(runs)
    half = stats.norm.ppf(0.975) * np.sqrt(sum(np.var(sample) for sample in runs) / n) / 2
    assert (low, high) == (pytest.approx(value - half, abs=0.01), pytest.approx(value + half, abs=0.01))


def test_the_same_runs_give_the_same_interval():
    runs = arrays([0.1, 0.5, 0.9], [0.2, 0.3, 0.7])
    assert mean(runs) == mean(runs)


def test_the_interquartile_mean_leaves_the_outer_quarters_out():
    # Of 0, 1, ..., 7 the middle half is 2, 3, 4, 5: 3.5. However far the outer ones lie.
    assert interquartile_mean(arrays([0, 1, 2, 3], [4, 5, 6, 7])).value == 3.5
    assert interquartile_mean(arrays([-1000, 1, 2, 3], [4, 5, 6, 10**9])).value == 3.5
    low, high = interquartile_mean(arrays([0, 1, 2, 3], [4, 5, 6, 7]))[1:3]
    assert 2.0 < low < 3.5 < high < 5.0


def test_one_run_has_no_interval():
    assert mean(arrays([0.25], [0.75, 1.25])) == (0.75, None, None, None)


@pytest.mark.parametrize("runs", [[], arrays([])])
def test_no_run_has_no_statistic(runs):
    with pytest.raises(ValueError, match="needs runs"):
        estimate(lambda *samples, axis=-1: 0.0, runs)


# ---- who beats whom


def test_the_probability_of_improvement():
    # First environment, of ours {1, 3} and theirs {1, 2}: 1 = 1 counts 1/2, 1 < 2 counts 0, 3 beats both:
    # 2.5 of 4 pairs. Second environment: none. The mean over environments is 0.625 / 2.
    ours, theirs = arrays([1, 3], [0, 0, 0]), arrays([1, 2], [5, 6])
    assert improvement(ours, theirs).value == pytest.approx(0.3125)
    # What is lost by one side is won by the other.
    assert improvement(theirs, ours).value == pytest.approx(1 - 0.3125)


def test_the_interval_of_an_improvement():
    certain = improvement(arrays([3, 4], [7, 8]), arrays([1, 2], [5, 6]))
    assert certain == (1.0, 1.0, 1.0, "bootstrap")
    assert improvement(arrays([1, 1, 1]), arrays([1, 1]))[:3] == (0.5, 0.5, 0.5)
    assert improvement(arrays([1, 1]), arrays([1, 1]))[:3] == (0.5, None, None)
    value, low, high, _ = improvement(arrays([1, 3, 5]), arrays([2, 4, 6]))
    # 3 > 2, 5 > 2, 5 > 4: three pairs of nine.
    assert value == pytest.approx(1 / 3) and 0.0 <= low < value < high <= 1.0


def test_an_improvement_over_environments_weighs_each_alike():
    # 1 of 1 pair, 0 of 4 pairs: 1/2, not 1/5.
    assert improvement(arrays([1], [0, 0]), arrays([0], [1, 1])).value == 0.5


# ---- curves


def test_a_band_over_seeds():
    # Seeds {0, 2} and {10, 10}: t of one degree of freedom is 12.706, the mean's standard error 1 and 0.
    middle, low, high = band(np.array([[0.0, 10.0], [2.0, 10.0]]))
    assert middle.tolist() == [1.0, 10.0]
    assert np.array([low, high]) == pytest.approx(np.array([[-11.706, 10], [13.706, 10]]), abs=1e-3)


def test_the_spread_of_seeds():
    middle, low, high = spread(np.array([[0.0, 10.0], [np.nan, np.nan], [2.0, 10.0]]))
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([1.0, 10.0], [0.0, 10.0], [2.0, 10.0])


def test_gaps_in_a_curve_are_bridged():
    middle, _, _ = band(np.array([[np.nan, 1.0, np.nan, 3.0, np.nan]]))
    assert np.isnan(middle[0]) and middle[1:].tolist() == [1.0, 2.0, 3.0, 3.0]
    assert np.isnan(band(np.full((1, 3), np.nan))[0]).all()


def test_a_run_without_an_episode_does_not_hide_the_others():
    middle, low, high = band(np.array([[1.0, 3.0], [np.nan, np.nan], [3.0, 5.0]]))
    assert (middle.tolist(), (high - middle).tolist()) == ([2.0, 4.0], (middle - low).tolist())
