"""Tango's score against what it is defined by: the likeliest spread where the null holds."""

import math

import numpy as np
import pytest

from contlearn.statistics.non_inferiority import shift_bound, shift_score

CASES = [
    (30, 30, 1000, 0.03),
    (0, 0, 100, 0.03),
    (0, 12, 150, 0.05),
    (25, 3, 300, 0.02),
    (1, 40, 5000, 0.03),
    (7, 5, 60, -0.02),
]


def searched(won, lost, rows, margin):
    """Find the likeliest share of lost rows on a grid, and divide by the spread it gives."""
    shift = -margin
    shares = np.linspace(max(0.0, -shift), (1.0 - shift) / 2.0, 2_000_001)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = (
            np.where(lost > 0, lost * np.log(shares), 0.0)
            + np.where(won > 0, won * np.log(shares + shift), 0.0)
            + (rows - won - lost) * np.log(1.0 - 2.0 * shares - shift)
        )
    share = shares[np.nanargmax(likelihood)]
    return (won - lost + margin * rows) / math.sqrt(rows * (2 * share + shift - shift**2))


@pytest.mark.parametrize("case", CASES)
def test_score_is_the_one_with_the_likeliest_spread(case):
    assert shift_score(*case) == pytest.approx(searched(*case), rel=1e-3)


@pytest.mark.parametrize(("won", "lost", "rows", "margin"), CASES)
def test_bound_is_where_the_score_is_at_its_level(won, lost, rows, margin):
    bound = shift_bound(won, lost, rows, 0.95)
    assert shift_score(won, lost, rows, -bound) == pytest.approx(1.6449, abs=1e-3)
    assert bound < (won - lost) / rows


def test_more_confidence_and_fewer_rows_give_a_lower_bound():
    bounds = [shift_bound(30, 30, 1000, level) for level in (0.9, 0.95, 0.99, 0.999999)]
    assert bounds == sorted(bounds, reverse=True)
    assert shift_bound(3, 3, 100, 0.95) < shift_bound(30, 30, 1000, 0.95)


def test_all_rows_lost_are_bounded_by_everything():
    assert shift_bound(0, 10, 10, 0.95) == -1.0


def test_error_stays_at_its_level_at_the_margin():
    """Exactly, over all outcomes of 100 rows of which 6 in a hundred change sides."""
    rows, margin, apart = 100, 0.03, 0.06
    lost_share, won_share = (apart + margin) / 2, (apart - margin) / 2
    for level, asked in ((0.05, 0.95), (0.005, 0.995)):
        error = 0.0
        for lost in range(26):
            for won in range(26):
                if shift_bound(won, lost, rows, asked) > -margin:
                    ways = math.comb(rows, lost) * math.comb(rows - lost, won)
                    same = (1 - apart) ** (rows - lost - won)
                    error += ways * lost_share**lost * won_share**won * same
        assert error <= level
