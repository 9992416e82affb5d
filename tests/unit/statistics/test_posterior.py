"""What few rows say of a true difference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from contlearn.statistics.posterior import chance_of_loss, posterior_differences


def _by_the_share_won(lost, won, rows, margin):
    """The same chance, integrated over the share won instead of the share that changed."""
    a, b, c = lost + 0.5, won + 0.5, rows - lost - won + 0.5

    def density(share):
        return beta.pdf(share, b, a + c) * beta.sf((share + margin) / (1.0 - share), a, c)

    points = [1e-4, 1e-3, 1e-2]
    return quad(density, 0.0, (1.0 - margin) / 2, limit=500, points=points)[0]


@pytest.mark.parametrize(
    ("lost", "won", "rows", "margin"),
    [
        (2, 3, 42, 0.03), (0, 0, 10, 0.03), (10, 0, 10, 0.03), (5, 5, 10, 0.03), (3, 1, 20, 0.3),
        (20, 15, 299, 0.03), (0, 0, 1, 0.03), (1, 0, 1, 0.5), (60, 30, 5000, 0.01),
    ],
)  # fmt: skip
def test_chance_of_loss_is_that_of_another_integral(lost, won, rows, margin):
    expected = _by_the_share_won(lost, won, rows, margin)
    assert float(chance_of_loss(lost, won, rows, margin)) == pytest.approx(expected, abs=1e-5)


def test_chance_of_loss_is_the_share_of_draws_from_the_dirichlet_distribution():
    shares = np.random.default_rng(3).dirichlet([2.5, 3.5, 37.5], 400_000)
    drawn = (shares[:, 0] - shares[:, 1] >= 0.03).mean()
    assert float(chance_of_loss(2, 3, 42, 0.03)) == pytest.approx(drawn, abs=0.003)


def test_chance_of_loss_takes_many_counts_at_once_and_no_loss_beyond_all_rows():
    at_once = chance_of_loss([0, 2], [0, 3], [10, 42], 0.03)
    assert at_once.tolist() == [
        float(chance_of_loss(*one, 0.03)) for one in ((0, 0, 10), (2, 3, 42))
    ]
    assert float(chance_of_loss(5, 0, 5, 1.0)) == float(chance_of_loss(5, 0, 5, 2.0)) == 0.0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_chance_of_loss_grows_with_rows_lost_and_falls_with_rows_won_and_with_the_margin(data):
    rows = data.draw(st.integers(2, 400))
    lost = data.draw(st.integers(0, rows - 1))
    won = data.draw(st.integers(0, rows - 1 - lost))
    margin = data.draw(st.floats(0.005, 0.5))
    chance = float(chance_of_loss(lost, won, rows, margin))
    assert 0.0 <= chance <= 1.0
    assert float(chance_of_loss(lost + 1, won, rows, margin)) >= chance - 1e-6
    assert float(chance_of_loss(lost, won + 1, rows, margin)) <= chance + 1e-6
    assert float(chance_of_loss(lost, won, rows, margin * 1.5)) <= chance + 1e-6
    # A loss and a gain of the same size are as probable where as many rows were won as lost.
    assert float(chance_of_loss(lost, lost, 2 * rows, margin)) <= 0.5


def test_drawn_differences_of_a_share_have_the_chance_that_counts_have():
    """Rows count one if they are right: 4 of 60 lost, 2 won."""
    champion = np.array([[1.0, 1.0]] * 40 + [[0.0, 1.0]] * 20)
    challenger = champion.copy()
    challenger[:4, 0], challenger[40:42, 0] = 0.0, 1.0
    draws = posterior_differences(
        champion,
        challenger,
        lambda sums: sums[..., 0] / sums[..., 1],
        right=np.array([[1.0, 1.0]]),
        wrong=np.array([[0.0, 1.0]]),
        draws=40_000,
        seed=5,
    )
    expected = float(chance_of_loss(4, 2, 60, 0.03))
    assert (draws <= -0.03).mean() == pytest.approx(expected, abs=0.01)


def test_drawn_differences_are_the_same_for_a_seed_and_never_none_where_no_row_differs():
    same = np.array([[1.0, 1.0]] * 30)
    rest = {"right": same[:1], "wrong": np.array([[0.0, 1.0]]), "draws": 500}

    def draw(seed):
        return posterior_differences(
            same, same, lambda sums: sums[..., 0] / sums[..., 1], **rest, seed=seed
        )

    assert (draw(1) == draw(1)).all()
    assert (draw(1) != draw(2)).any()
    assert 0.02 < (draw(1) <= -0.03).mean() < 0.25
