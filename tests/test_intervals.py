"""Intervals over seeds and images against what can be worked out by hand."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from replication import estimates, intervals
from replication.estimates import Estimate
from replication.intervals import Samples

RANDOM = np.random.default_rng(0)


def samples(values, counted=None):
    values = np.asarray(values, float)
    return Samples.of(list(zip(values, np.ones_like(values, bool) if counted is None else np.asarray(counted, bool), strict=True)))


def width(ends):
    return ends[1] - ends[0]


def test_only_images_differ_the_interval_is_that_of_a_proportion():
    """All seeds alike: more seeds do not make it narrower."""
    row = np.arange(400) < 100
    expected = 2 * 1.96 * math.sqrt(0.25 * 0.75 / 400)
    for seeds in (1, 6):
        one = samples([row] * seeds)
        assert width(intervals.two_way(one.mean, 400)) == pytest.approx(expected, rel=0.06)


def test_only_seeds_differ_every_draw_is_a_mean_of_seeds():
    values = (0.0, 1.0, 5.0)
    one = samples(np.repeat(np.array(values)[:, None], 50, 1))
    possible = sorted({sum(drawn) / 3 for drawn in product(values, repeat=3)})
    low, high = intervals.two_way(one.mean, 50)
    assert (low, high) == pytest.approx((possible[0], possible[-1])), "each has a chance of 1/27, above 2.5 %"
    low, high = intervals.two_way(one.mean, 50, ends=(0.05, 0.05))
    assert (low, high) == pytest.approx((1 / 3, 11 / 3)), "1/27 is below 5 %, so the next in line"


def test_errors_of_seeds_and_images_add_up():
    """Where seeds and images act independently the variance is var(seeds)/S + var(images)/N."""
    seeds, images = RANDOM.normal(0, 1, 25), RANDOM.normal(0, 4, 160)
    one = samples(seeds[:, None] + images)
    sd = math.sqrt(seeds.var() / 25 + images.var() / 160)
    low, high = intervals.two_way(one.mean, 160)
    assert high - low == pytest.approx(2 * 1.96 * sd, rel=0.06)
    assert (low + high) / 2 == pytest.approx(seeds.mean() + images.mean(), abs=0.1)


def test_images_are_shared_by_both_networks_and_by_all_seeds():
    """A difference that is the same for every image has no error of images, however much the images themselves differ."""
    hard = RANDOM.normal(0, 10, 80)
    ours, theirs = samples([hard + 3.0] * 4), samples([hard + 1.0] * 4)
    low, high = intervals.two_way(lambda w: ours.mean(w) - theirs.mean(w), 80)
    assert (low, high) == pytest.approx((2, 2))


def test_the_same_seed_gives_the_same_interval_and_blocks_do_not_matter(monkeypatch):
    one = samples(RANDOM.normal(size=(3, 30)))
    found = intervals.two_way(one.mean, 30, seed=1)
    assert found == intervals.two_way(one.mean, 30, seed=1) != intervals.two_way(one.mean, 30, seed=2)
    monkeypatch.setattr(intervals, "BLOCK", 30 * 500)
    assert intervals.two_way(one.mean, 30, seed=1) == pytest.approx(found, rel=0.2)


def test_images_that_do_not_count_change_nothing():
    values, rest = RANDOM.normal(size=(3, 40)), np.full((3, 20), 1e6)
    one, padded = samples(values), samples(np.hstack([values, rest]), np.hstack([np.ones((3, 40)), np.zeros((3, 20))]))
    for kind in ("mean", "median"):
        here, there = getattr(one, kind)(np.ones((1, 40))), getattr(padded, kind)(np.ones((1, 60)))
        assert here == pytest.approx(there)
    assert padded.images == (40, 40, 40)
    shorter = Samples.of([(np.ones(3), np.ones(3, bool)), (np.zeros(2), np.ones(2, bool))])
    assert shorter.images == (3, 2) and shorter.mean(np.ones((1, 3))) == pytest.approx(np.array([[1, 0]]))


def test_the_median_is_numpys_of_the_drawn_images_and_failures_are_infinite():
    values = RANDOM.normal(size=(2, 9)).round(1)
    values[1, :6] = np.inf
    one = samples(values)
    weights = RANDOM.multinomial(9, np.full(9, 1 / 9), size=60).astype(float)
    for drawn, found in zip(weights, one.median(weights), strict=True):
        with np.errstate(invalid="ignore"):
            assert found == pytest.approx(np.median(np.repeat(values, drawn.astype(int), axis=1), axis=1))


def test_a_seed_without_images_is_no_zero():
    one = samples([[1.0, 1.0], [3.0, 3.0]], [[1, 1], [0, 0]])
    assert np.isnan(one.mean(np.ones((1, 2)))[0, 1]) and np.isnan(one.median(np.ones((1, 2)))[0, 1])
    assert intervals.two_way(one.mean, 2) == (1, 1), "its draws are those of the other seed"
    assert intervals.estimate(one.mean, 2) == Estimate(1, -math.inf, math.inf, 1)
    nothing = samples([[1.0]], [[0]])
    assert intervals.two_way(nothing.mean, 1) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="no seed with an image that counts"):
        intervals.estimate(nothing.mean, 1)
    with pytest.raises(ValueError, match="at least one seed"):
        Samples.of([])
    with pytest.raises(ValueError, match="same images, got 2 and 3"):
        Samples.of([(np.ones(2), np.ones(3, bool))])
    with pytest.raises(ValueError, match="got NaN"):
        samples([[math.nan]])


def test_the_estimate_is_the_wider_of_student_and_bootstrap():
    few_seeds = samples(np.array([[0.0], [1.0], [5.0]]) + np.zeros(200))
    assert intervals.estimate(few_seeds.mean, 200) == Estimate(2, *estimates.student([0, 1, 5]), 3)
    noisy = samples([RANDOM.permutation(np.arange(40)) for _ in range(5)])
    found = intervals.estimate(noisy.mean, 40)
    assert (found.low, found.high) == intervals.two_way(noisy.mean, 40), "all seeds have the same mean: the images decide"


def test_equal_values_of_all_seeds_are_no_certainty():
    """Three seeds with 2, 2, 2 points, by other images each time: never [2, 2]."""
    row = np.r_[np.full(4, 100.0), np.full(2, -100.0), np.zeros(94)]
    found = intervals.of_points(samples([RANDOM.permutation(row) for _ in range(3)]))
    assert found.mean == pytest.approx(2) and found.low < 0 and found.high > 4 and found.n == 3

    assert intervals.estimate(samples(np.full((3, 9), 2.0)).mean, 9) == Estimate(2, -math.inf, math.inf, 3)


def test_an_interval_of_gaps_holds_no_gap_that_there_cannot_be():
    """Student's t of 90, 100 and 60 points would go on to 135, and of the same losses to -135."""
    shares = (0.9, 1.0, 0.6)
    rows = [100.0 * (np.arange(100) < 100 * share) for share in shares]
    found, lost = intervals.of_points(samples(rows)), intervals.of_points(samples([-row for row in rows]))
    expected = estimates.student([100 * share for share in shares])
    assert expected[1] > 100
    assert (found.low, found.high) == (pytest.approx(expected[0]), 100.0) and (lost.low, lost.high) == (-100.0, pytest.approx(-expected[0]))


@pytest.mark.parametrize(("n", "value"), [(20, 0.0), (200, 0.0), (50, 100.0)])
def test_nothing_else_seen_is_clopper_and_pearsons_bound(n, value):
    """No image of another kind among n: up to 1 - 0.025^(1/n) of all images may be of one."""
    found = intervals.of_points(samples(np.full((3, n), value)))
    unseen = stats.binomtest(0, n).proportion_ci(method="exact").high
    assert found.low == pytest.approx(value - unseen * (value + 100)) and found.high == pytest.approx(value + unseen * (100 - value))


def test_the_choice_of_the_best_moves_the_end_that_speaks_for_the_claim():
    values = [1.0, 2.0, 4.0, 4.5]
    plain, high, low = (estimates.estimate(values, **how) for how in ({}, {"choices": 4}, {"choices": 4, "favours": "low"}))
    assert high.high == plain.high and low.low == plain.low
    assert high.low == pytest.approx(stats.t.interval(1 - 0.05 / 4, 3, 2.875, stats.sem(values))[0])
    assert low.high == pytest.approx(stats.t.interval(1 - 0.05 / 4, 3, 2.875, stats.sem(values))[1])
    one = samples(RANDOM.normal(size=(5, 100)))
    ends = [intervals.two_way(one.mean, 100, ends=estimates.tails(k)) for k in (1, 12)]
    assert ends[1][0] < ends[0][0] and ends[1][1] == ends[0][1]
    for bad in ({"choices": 0}, {"favours": "none"}):
        with pytest.raises(ValueError, match="choices must be at least 1 and favours 'high' or 'low'"):
            estimates.estimate(values, **bad)


def test_the_corrected_end_covers_where_the_best_of_several_equals_was_taken():
    """Ten candidates of mean 0, four seeds: the best one's plain interval lies above 0 too often, the corrected one does not."""
    draws = RANDOM.normal(size=(1500, 10, 4))
    best = draws[np.arange(1500), draws.mean(2).argmax(1)]
    wrong = {k: np.mean([estimates.student(values, estimates.tails(k))[0] > 0 for values in best]) for k in (1, 10)}
    assert wrong[1] > 0.06 > 0.025 >= wrong[10]


def test_the_ceiling_is_what_the_other_network_loses():
    kept = samples(np.vstack([np.arange(40) < 34, np.arange(40) < 30]), [np.ones(40), np.arange(40) >= 10])
    found = intervals.ceiling(kept)
    assert found.points == pytest.approx(100 * (6 / 40 + 10 / 30) / 2) and found.images == (40, 30)
    assert found.reaches(20) and not found.reaches(25) and not found.few
    assert intervals.ceiling(samples(np.zeros((1, 29)))).few and not intervals.ceiling(samples(np.zeros((1, 29)))).reaches(1)


def test_a_ratio_is_of_the_same_images():
    hard = RANDOM.uniform(1, 5, 50)
    ours, theirs = samples([3 * hard] * 2), samples([hard] * 2)
    assert intervals.two_way(intervals.ratio(ours.mean, theirs.mean), 50) == pytest.approx((3, 3))
