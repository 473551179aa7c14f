"""The rules of the plan: each word where the plan says so, and nowhere else."""

import math

import pytest
from scipy import stats

from replication.claims import verdicts
from replication.claims.verdicts import INCONCLUSIVE, NOT, PARTLY, REPRODUCED
from replication.estimates import Estimate, estimate


def about(mean, half=0.5, n=3):
    return Estimate(mean, mean - half, mean + half, n)


def test_an_estimate_is_students_interval():
    values = [1.0, 2.0, 4.0, 4.5]
    low, high = stats.t.interval(0.95, 3, loc=2.875, scale=stats.sem(values))
    found = estimate(values)
    assert found.mean == 2.875 and found.n == 4
    assert (found.low, found.high) == pytest.approx((low, high))
    assert estimate([2.0, 2.0, 2.0]) == Estimate(2.0, -math.inf, math.inf, 3), "coarse values are not certain ones"


def test_one_seed_or_an_infinite_value_says_nothing_of_the_spread():
    assert estimate([3.0]) == Estimate(3.0, -math.inf, math.inf, 1)
    assert estimate([1.0, math.inf, 2.0]).low == -math.inf
    with pytest.raises(ValueError, match="values must hold at least one"):
        estimate([])


@pytest.mark.parametrize(
    ("paper", "strict", "word"),
    [
        (about(8), about(1), REPRODUCED),
        (about(7.5), about(1), PARTLY),  # below half of the claim
        (about(20), about(0.2), PARTLY),  # gone under strong attacks
        (about(1), about(-9), PARTLY),
        (about(-10), about(-10), NOT),
        (about(2, half=4), about(-10), NOT),
        (about(2, half=7), about(-10), INCONCLUSIVE),  # it may be half of the claim, or nothing
        (about(20, n=2), about(20), INCONCLUSIVE),
        (about(20), about(20, n=1), INCONCLUSIVE),
        (None, about(20), INCONCLUSIVE),
        (about(20), None, INCONCLUSIVE),
    ],
)
def test_gap(paper, strict, word):
    assert verdicts.gap(paper, strict, 15.2) == word


@pytest.mark.parametrize(
    ("paper", "strict", "word"),
    [
        (about(25), about(12), REPRODUCED),
        (about(25), about(2), PARTLY),
        (about(2.5), about(2.5), PARTLY),
        (about(2.4), about(9), NOT),
        (about(1.3), about(1.1), NOT),
        (about(9.8), about(1.1), INCONCLUSIVE),
        (about(25), None, INCONCLUSIVE),
    ],
)
def test_ratio(paper, strict, word):
    assert verdicts.ratio(paper, strict) == word


@pytest.mark.parametrize(
    ("training", "margin", "word"),
    [
        (about(0.3, 0.1), about(0.4, 0.1), REPRODUCED),
        (about(0.3, 0.1), about(0.9, 0.3), PARTLY),
        (about(0.8, 0.1), about(0.3, 0.1), PARTLY),
        (about(1.2, 0.3), about(0.3, 0.1), NOT),
        (about(1.0, 0.8), about(0.3, 0.1), INCONCLUSIVE),
        (about(0.3, 0.1, n=2), about(0.3, 0.1), INCONCLUSIVE),
    ],
)
def test_suppressed(training, margin, word):
    assert verdicts.suppressed(training, margin) == word


def test_suppressed_needs_the_control_where_it_is_known():
    half = about(0.3, 0.1)
    assert verdicts.suppressed(half, half, control=about(0.3, 0.1)) == REPRODUCED
    assert verdicts.suppressed(half, half, control=about(0.8, 0.1)) == PARTLY == verdicts.suppressed(half, half, control=about(1.4))
    assert verdicts.suppressed(half, half, control=None) == REPRODUCED, "an old record does not have it"


def test_gfa_took_hold_above_a_tenth_and_far_above_plain():
    plain = [0.00, 0.01, 0.02]  # mean 0.01, sd 0.01: ten above are 0.11
    assert verdicts.took_hold(0.12, plain) and not verdicts.took_hold(0.105, plain)
    assert not verdicts.took_hold(0.099, [0.0, 0.001, 0.0]) and verdicts.took_hold(0.1, [0.0, 0.001, 0.0])
    assert verdicts.took_hold(0.5, plain[:2]) is None


def test_everywhere():
    assert verdicts.everywhere([REPRODUCED, REPRODUCED]) == REPRODUCED
    assert verdicts.everywhere([REPRODUCED, NOT]) == PARTLY == verdicts.everywhere([PARTLY, INCONCLUSIVE])
    assert verdicts.everywhere([NOT, NOT]) == NOT
    assert verdicts.everywhere([NOT, INCONCLUSIVE]) == INCONCLUSIVE


def test_cheaper():
    pgd = {"q25": 5.0, "median": 6.0, "q75": 7.0}
    quick, slow = {"q25": 1.0, "median": 2.0, "q75": 3.0}, {"q25": 4.0, "median": 5.0, "q75": 6.0}
    assert verdicts.cheaper({"a": quick, "b": quick}, pgd) == REPRODUCED
    assert verdicts.cheaper({"a": quick, "b": slow}, pgd) == PARTLY
    assert verdicts.cheaper({"a": slow}, pgd) == NOT and verdicts.cheaper({}, pgd) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("signed", "absolute", "layers", "word"),
    [
        (about(0.05, 0.01), about(0, 1), about(0, 1), REPRODUCED),
        (about(-0.05, 0.01), about(0.05, 0.01), about(0, 1), PARTLY),
        (about(-0.05, 0.01), about(0, 1), about(0.05, 0.01), PARTLY),
        (about(-0.05, 0.01), about(0, 1), about(0, 1), NOT),
        (about(0.0, 0.01), about(0, 1), about(0, 1), INCONCLUSIVE),
        (about(0.05, 0.01, n=2), about(0, 1), about(0, 1), INCONCLUSIVE),
        (None, about(0, 1), about(0, 1), INCONCLUSIVE),
    ],
)
def test_raised(signed, absolute, layers, word):
    assert verdicts.raised(signed, absolute, layers) == word
