from __future__ import annotations

import numpy as np

from contlearn.data.label_quality import (
    confident_issues,
    find_suspects,
    judge_cycle,
    out_of_sample_ids,
)
from contlearn.types import ClassPrediction, LabelSpace


def noisy(seed, *, flipped=0.1, rows=900, classes=4, sure=0.9):
    """Probabilities of a good model, labels of which some are wrong, and which those are."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    probabilities = rng.dirichlet(np.ones(classes) * 0.5, rows) * (1 - sure)
    probabilities[np.arange(rows), true] += sure
    wrong = rng.random(rows) < flipped
    given = np.where(wrong, (true + rng.integers(1, classes, rows)) % classes, true)
    return probabilities, given, true, wrong


def test_flipped_labels_are_found_and_the_right_ones_suggested():
    for seed in range(5):
        probabilities, given, true, wrong = noisy(seed)
        found, _ = confident_issues(probabilities, given)
        issue = found != given
        # The threshold of a class sinks with the wrong rows in it; few right ones are doubted.
        assert (issue & wrong).sum() / wrong.sum() > 0.95
        assert (issue & wrong).sum() / issue.sum() > 0.95
        assert (found[issue & wrong] == true[issue & wrong]).mean() > 0.95


def test_right_labels_of_an_unsure_model_are_not_doubted():
    probabilities, given, _, _ = noisy(7, flipped=0.0, sure=0.5)
    found, _ = confident_issues(probabilities, given)
    assert (found != given).mean() < 0.01


def test_class_without_rows_is_never_suggested():
    probabilities = np.array([[0.2, 0.1, 0.7], [0.3, 0.2, 0.5]])
    found, thresholds = confident_issues(probabilities, np.array([0, 1]))
    assert thresholds[2] == np.inf
    assert 2 not in found


class ByFirstWord:
    """Predicts the class that the text begins with."""

    label_space = LabelSpace(("billing", "returns"))

    def predict(self, inputs):
        answers = []
        for item in inputs:
            label = item["text"].split()[0]
            scores = {name: 0.95 if name == label else 0.05 for name in self.label_space.names}
            answers.append(ClassPrediction(label=label, confidence=0.95, scores=scores))
        return answers


def test_doubtful_records_are_listed_with_their_evidence(taking):
    rows = [
        {"text": f"{label} {i}", "label": label}
        for i in range(20)
        for label in ("billing", "returns")
    ]
    rows.append({"text": "returns to me", "label": "billing"})
    rows.append({"text": "a song", "label": "music"})
    taking.ingest(taking.write("rows.jsonl", rows))
    (issue,) = find_suspects(taking.workspace, taking.catalog, ByFirstWord())
    assert (issue.given, issue.suggested, issue.source) == ("billing", "returns", "rows.jsonl")
    assert issue.given_probability < 0.1
    assert issue.suggested_probability > issue.threshold > 0.8
    assert len(taking.records()) == 42


def test_learnt_records_are_not_judged(taking):
    from contlearn.catalog.records import plan_records, settle_learnt

    taking.ingest(
        taking.write(
            "rows.jsonl", [{"text": f"billing {i}", "label": "billing"} for i in range(50)]
        )
    )
    with taking.catalog.write() as connection:
        plan_records(connection, "cycle")
        settle_learnt(connection, "cycle")
    held_out = {row.record_id for row in taking.rows() if row.split == "held_out"}
    assert set(out_of_sample_ids(taking.catalog, limit=100)) == held_out


def test_cycle_judges_what_it_learnt_by_the_model_before(taking):
    rows = [{"text": f"{x} {i}", "label": x} for i in range(20) for x in ("billing", "returns")]
    rows.append({"text": "returns to me", "label": "billing"})
    taking.ingest(taking.write("rows.jsonl", rows))
    records = taking.records()
    new = [record for record in records if record.split == "train"]
    held_out = [record for record in records if record.split == "held_out"]
    found = judge_cycle(new, held_out, before=ByFirstWord(), after=ByFirstWord())
    assert (found["looked_at"], found["number"]) == (41, 1)
    (suspect,) = found["suspects"]
    assert (suspect["given"], suspect["suggested"]) == ("billing", "returns")
    # The first cycle has no model that did not learn these labels.
    first = judge_cycle(new, held_out, before=None, after=ByFirstWord())
    assert first["looked_at"] == len(held_out)
