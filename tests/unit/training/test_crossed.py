"""Records that a model has to learn, judged by heads that have not seen them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contlearn.data.label_quality import doubtful
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint, save_checkpoint
from contlearn.training.crossed import cross_validated, crossed_probabilities, with_neighbours
from contlearn.training.statistics import FeatureStatistics
from contlearn.types import LabelSpace
from tests.unit.training.conftest import record, sentences, texts


def test_row_is_judged_by_the_head_of_the_other_folds():
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 3
    features = rng.normal(size=(60, 4)) + 2 * np.eye(3, 4)[targets]
    folds = np.arange(60) % 5
    found = crossed_probabilities(features, targets, folds, labels=3)
    assert np.allclose(found.sum(axis=1), 1.0)
    for fold in range(5):
        own = folds == fold
        rest = FeatureStatistics.empty(4)
        rest.add(features[~own], targets[~own].tolist(), labels=3)
        expected = rest.head().scores(features[own])
        # The same order and, up to one temperature, the same distances.
        assert (found[own].argmax(axis=1) == expected.argmax(axis=1)).all()


def test_row_whose_label_stands_in_its_own_fold_only_is_not_judged():
    features = np.random.default_rng(1).normal(size=(9, 2))
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    folds = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0])
    found = crossed_probabilities(features, targets, folds, labels=3)
    assert np.isnan(found[8]).all()
    assert not np.isnan(found[:8]).any()


def test_words_see_their_neighbours_and_no_other_sentence():
    features = np.eye(3)
    found = with_neighbours(features, np.array([0, 0, 1]))
    half = (found.shape[1] - 3) // 2
    before, behind = found[:, 3 : 3 + half], found[:, 3 + half :]
    assert not before[0].any()
    assert before[1].any()
    assert behind[0].any()
    assert not behind[1].any()
    assert not before[2].any()


@pytest.fixture
def untrained(tiny_model, tmp_path):
    """Write the tiny model as a checkpoint for one kind of head."""

    def write(view):
        head = HeadSpec(name="logits", outputs=LabelSpace(), view=view)
        made = new_checkpoint(str(tiny_model), head=head, pooling="mean", dropout=0.0)
        save_checkpoint(made, tmp_path / view)
        return tmp_path / view

    return write


def test_flipped_labels_of_a_first_cycle_are_found(untrained, lineage):
    labels = ["billing", "garden", "music"]
    right = texts(labels, 60)
    wrong = {}
    records = []
    for place, one in enumerate(right):
        if place % 10 == 0:
            other = labels[(labels.index(one.target) + 1) % 3]
            one = record(one.inputs, other)
            wrong[one.record_id] = right[place].target
        records.append(one)
    space, opinions = cross_validated(
        records, task=lineage.task, checkpoint=untrained("pooled"), max_tokens=32
    )
    assert len(opinions) == len(records)
    found = doubtful(lineage.task, space.names, opinions)
    issues = {issue.record_id: issue.suggested for issue in found}
    found = issues.keys() & wrong.keys()
    assert len(found) >= 0.8 * len(wrong)
    assert len(found) >= 0.8 * len(issues)
    assert all(issues[record_id] == wrong[record_id] for record_id in found)


def test_flipped_tags_of_a_first_cycle_are_found(untrained, tagger):
    right = sentences(["city", "artist"], 400)
    swapped = {"B-city": "B-artist", "B-artist": "B-city"}
    records, wrong = [], {}
    for place, one in enumerate(right):
        if place % 10 == 0:
            one = record(one.inputs, tuple(swapped.get(tag, tag) for tag in one.target))
            wrong[one.record_id] = [i for i, tag in enumerate(one.target) if tag != "O"]
        records.append(one)
    space, opinions = cross_validated(
        records, task=tagger.task, checkpoint=untrained("words"), max_tokens=32
    )
    assert opinions[0][1].shape == (len(records[0].target), len(space))
    issues = {issue.record_id: issue for issue in doubtful(tagger.task, space.names, opinions)}
    found = issues.keys() & wrong.keys()
    # Half of the city names are a little less certain than the mean of all; they are not doubted.
    assert len(found) >= 0.5 * len(wrong)
    assert len(found) >= 0.9 * len(issues)
    assert any([w.word for w in issues[i].words] == wrong[i] for i in found)


def test_group_stands_in_one_fold(untrained, lineage):
    records = [
        replace(one, group="customer 1" if one.target == "music" else None)
        for one in texts(["billing", "garden", "music"], 20)
    ]
    _, opinions = cross_validated(
        records, task=lineage.task, checkpoint=untrained("pooled"), max_tokens=32
    )
    # No other fold has the label of the one customer: nothing is known of it.
    for one, probabilities in opinions:
        assert np.isnan(probabilities).all() == (one.target == "music")
