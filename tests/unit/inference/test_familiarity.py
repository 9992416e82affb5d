from __future__ import annotations

import numpy as np
import pytest

from contlearn.inference.familiarity import MIN_ROWS, calibrate, familiarity, is_unknown


def rows(count, size, scale, seed):
    """Give logits that favour one label each, by so much."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, size))
    logits[np.arange(count), generator.integers(size, size=count)] += scale
    return list(logits)


@pytest.mark.parametrize("score", ["energy", "probability"])
def test_at_most_the_rate_of_known_texts_is_flagged_and_flat_ones_are(score):
    known = rows(400, 10, 8.0, seed=1)
    rule = calibrate(known, score, 1.3, rate=0.05)
    flagged = [is_unknown(logits, rule, 1.3) for logits in known]
    assert 0 < sum(flagged) <= 0.05 * len(known)
    assert all(is_unknown(logits, rule, 1.3) for logits in rows(50, 10, 0.0, seed=2))


def test_equal_scores_are_never_flagged():
    rule = calibrate([np.array([1.0, 0.0])] * 100, "energy")
    assert not is_unknown(np.array([1.0, 0.0]), rule, 1.0)


def test_too_few_texts_give_no_rule():
    assert calibrate(rows(MIN_ROWS - 1, 3, 5.0, seed=3), "energy") is None


def test_energy_does_not_overflow_and_probability_is_the_largest():
    assert familiarity(np.array([1000.0, 999.0]), "energy") == pytest.approx(1000.3133)
    assert familiarity(np.log([0.7, 0.2, 0.1]), "probability") == pytest.approx(0.7)
