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
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.02).fit(FEATURES, TARGETS)
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


def test_statistics_follow_a_linear_change_of_the_encoder():
    turn = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0] * 1.3
    carried = learnt(np.arange(120)).carried(FEATURES[::3], FEATURES[::3] @ turn)
    head = carried.head()
    accuracy = (head.scores(FEATURES @ turn).argmax(axis=1) == TARGETS).mean()
    before = (learnt(np.arange(120)).head().scores(FEATURES).argmax(axis=1) == TARGETS).mean()
    assert accuracy == pytest.approx(before, abs=0.03)


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
