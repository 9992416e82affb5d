from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from contlearn.errors import RegistryError
from contlearn.training.statistics import FeatureStatistics
from contlearn.types import LabelSpace

RANDOM = np.random.default_rng(0)
MEANS = RANDOM.normal(size=(4, 6)) * 2
TARGETS = np.repeat(np.arange(4), 30)
FEATURES = MEANS[TARGETS] + RANDOM.normal(size=(120, 6)) @ RANDOM.normal(size=(6, 6))


def learnt(order, batch=17):
    statistics = FeatureStatistics.empty(6)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        statistics.add(FEATURES[part], TARGETS[part].tolist(), labels=4)
    return statistics


def test_statistics_give_the_same_head_whatever_the_order():
    straight = learnt(np.arange(120)).head()
    mixed = learnt(RANDOM.permutation(120), batch=5).head()
    assert np.allclose(straight.weight, mixed.weight)
    assert np.allclose(straight.bias, mixed.bias)


def test_head_is_the_discriminant_that_scikit_learn_computes_from_all_records():
    statistics = learnt(np.arange(120))
    mine = statistics.head(prior=1.0).scores(FEATURES).argmax(axis=1)
    share = 4 * 6 / (4 * 6 + 120 - 4)  # a prior worth four records for each of six dimensions
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share).fit(FEATURES, TARGETS)
    assert (mine == theirs.predict(FEATURES)).mean() > 0.98


def test_statistics_forget_a_record_exactly():
    with_it, without = learnt(np.arange(120)), learnt(np.arange(100))
    with_it.remove(FEATURES[100:], TARGETS[100:].tolist())
    assert np.allclose(with_it.gram, without.gram)
    assert np.allclose(with_it.head().weight, without.head().weight)


def test_head_never_answers_a_label_without_records():
    statistics = learnt(np.arange(60))  # labels 0 and 1 only
    scores = statistics.head().scores(FEATURES)
    assert set(scores.argmax(axis=1).tolist()) <= {0, 1}


def test_statistics_follow_a_change_of_the_encoder():
    left, lost = [], []
    for seed in range(50):
        random = np.random.default_rng(seed)
        turn = np.eye(6) + 0.1 * random.normal(size=(6, 6))
        shift = random.normal(size=6)
        other = FEATURES + 20.0  # records of another kind, which the change moves elsewhere
        carried = learnt(np.arange(120)).carried(
            [(other, other @ turn - 5.0), (FEATURES[::3], FEATURES[::3] @ turn + shift)]
        )
        after = FEATURES @ turn + shift
        exact = FeatureStatistics.empty(6)
        exact.add(after, TARGETS.tolist(), labels=4)
        before = np.abs(learnt(np.arange(120)).sums - exact.sums).mean()
        left.append(np.abs(carried.sums - exact.sums).mean() / before)
        right = [
            (s.head().scores(after).argmax(axis=1) == TARGETS).mean() for s in (carried, exact)
        ]
        lost.append(right[1] - right[0])
    # Two fifths of the way in every draw, seven tenths of it and more in half of them.
    assert max(left) < 0.6
    assert np.median(left) < 0.3
    assert np.mean(lost) < 0.02
    assert max(lost) < 0.07


def test_a_shift_of_the_encoder_is_followed_exactly():
    carried = learnt(np.arange(120)).carried([(FEATURES[::3], FEATURES[::3] + 2.0)])
    exact = FeatureStatistics.empty(6)
    exact.add(FEATURES + 2.0, TARGETS.tolist(), labels=4)
    assert np.allclose(carried.gram, exact.gram)
    assert np.allclose(carried.sums, exact.sums)


def test_statistics_are_the_same_after_save_and_load(tmp_path):
    statistics = learnt(np.arange(120))
    statistics.save(tmp_path / "s.safetensors")
    loaded = FeatureStatistics.load(tmp_path / "s.safetensors", LabelSpace(tuple("abcde")))
    assert np.array_equal(loaded.gram, statistics.gram)
    assert np.array_equal(loaded.sums[:4], statistics.sums)
    assert loaded.counts.tolist() == [30, 30, 30, 30, 0]


def test_statistics_say_when_they_are_damaged(tmp_path):
    (tmp_path / "s.safetensors").write_bytes(b"nothing")
    with pytest.raises(RegistryError, match="cannot be read"):
        FeatureStatistics.load(tmp_path / "s.safetensors", LabelSpace())
    learnt(np.arange(120)).save(tmp_path / "s.safetensors")
    with pytest.raises(RegistryError, match="know 4 labels, the model 1"):
        FeatureStatistics.load(tmp_path / "s.safetensors", LabelSpace(("a",)))


@pytest.mark.parametrize("copies", [1, 3])
def test_head_of_labels_without_any_spread_has_scores_of_an_ordinary_size(copies):
    rows = np.repeat(np.random.default_rng(0).normal(size=(3, 384)), copies, axis=0)
    statistics = FeatureStatistics.empty(384)
    targets = np.repeat([0, 1, 2], copies)
    statistics.add(rows, targets.tolist(), labels=3)
    scores = statistics.head().scores(rows)
    assert (scores.argmax(axis=1) == targets).all()
    assert np.abs(scores).max() < 1_000
