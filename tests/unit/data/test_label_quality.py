from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np

from contlearn.data.label_quality import (
    confident_issues,
    doubtful,
    judge_cycle,
    out_of_sample_ids,
    suspect_labels,
)
from contlearn.tasks.text_classification import TextClassification, class_prediction
from contlearn.tasks.token_classification import TokenClassification
from contlearn.types import LabelledRecord, LabelSpace

CLASSES, TAGS = TextClassification(), TokenClassification()


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
            answers.append(class_prediction(label, 0.95, scores))
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
    (issue,) = suspect_labels(CLASSES, ByFirstWord(), taking.records())
    assert (issue.given, issue.suggested, issue.source) == ("billing", "returns", "rows.jsonl")
    assert issue.given_probability < 0.1
    assert issue.suggested_probability > issue.threshold > 0.8
    assert len(taking.records()) == 42


def test_class_that_has_another_name_in_a_whole_batch_is_doubted(taking):
    """No row of the batch says how sure the model is of the class that is hidden in it."""
    from contlearn.data.label_quality import ask_opinions, prove

    proved = [{"text": f"{x} {i}", "label": x} for i in range(9) for x in ("billing", "returns")]
    taking.ingest(taking.write("proved.jsonl", proved))
    proof = prove(
        CLASSES,
        ByFirstWord.label_space.names,
        ask_opinions(CLASSES, ByFirstWord(), taking.records()),
    )
    assert proof.rows == {"billing": 9, "returns": 9}
    assert all(abs(mean - 0.95) < 1e-9 for mean in proof.means.values())
    batch = [{"text": f"returns of {i}", "label": "billing"} for i in range(20)]
    taking.ingest(taking.write("batch.jsonl", batch))
    mislabelled = [one for one in taking.records() if " of " in one.inputs["text"]]
    assert suspect_labels(CLASSES, ByFirstWord(), mislabelled) == []
    found = judge_cycle(
        CLASSES, mislabelled, [], before=ByFirstWord(), after=ByFirstWord(), proof=proof
    )
    assert (found["looked_at"], found["number"]) == (20, 20)
    assert found["pairs"] == [{"given": "billing", "suggested": "returns", "number": 20, "of": 20}]


def test_label_without_a_proved_row_has_the_threshold_of_all_rows():
    from contlearn.data.label_quality import Proof

    proof = Proof(means={"a": 0.9, "b": 0.6}, rows={"a": 1, "b": 2})
    assert proof.thresholds(["a", "b", "c"]).tolist() == [0.9, 0.6, (0.9 + 2 * 0.6) / 3]
    assert Proof.from_json(proof.to_json()) == proof


def test_what_is_measured_on_is_judged_by_the_model_before(taking):
    """The new model may have learnt the same wrong label from the same batch."""

    class Misled(ByFirstWord):
        def predict(self, inputs):
            return super().predict([{"text": "billing"} for _ in inputs])

    rows = [{"text": f"{x} {i}", "label": x} for i in range(20) for x in ("billing", "returns")]
    rows += [{"text": "returns to me", "label": "billing"}]
    taking.ingest(taking.write("rows.jsonl", rows), held_out=True)
    found = judge_cycle(CLASSES, [], taking.records(), before=ByFirstWord(), after=Misled())
    assert [(one["given"], one["judge"]) for one in found["suspects"]] == [("billing", "champion")]


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
    found = judge_cycle(CLASSES, new, held_out, before=ByFirstWord(), after=ByFirstWord())
    assert (found["looked_at"], found["number"]) == (41, 1)
    (suspect,) = found["suspects"]
    assert (suspect["given"], suspect["suggested"]) == ("billing", "returns")
    # The first cycle has no model that did not learn these labels.
    first = judge_cycle(CLASSES, new, held_out, before=None, after=ByFirstWord())
    assert first["looked_at"] == len(held_out)


def test_first_cycle_and_new_labels_are_judged_by_cross_validation(taking):
    rows = [{"text": f"{x} {i}", "label": x} for i in range(20) for x in ("billing", "returns")]
    rows += [{"text": f"music {i}", "label": "music"} for i in range(20)]
    rows += [{"text": "returns to me", "label": "billing"}]
    rows += [{"text": "returns of songs", "label": "music"}]
    taking.ingest(taking.write("rows.jsonl", rows), held_out=False)
    records = taking.records()
    names = ("billing", "music", "returns")

    def cross_validate(asked):
        def opinion(record):
            first = record.inputs["text"].split()[0]
            return np.array([0.95 if name == first else 0.025 for name in names])

        return LabelSpace(names), [(record, opinion(record)) for record in asked]

    def judged(before):
        found = judge_cycle(
            CLASSES, records, [], before=before, after=ByFirstWord(), cross_validate=cross_validate
        )
        assert found["looked_at"] == 62
        return {(one["given"], one["judge"]) for one in found["suspects"]}

    assert judged(None) == {("billing", "cross-validation"), ("music", "cross-validation")}
    # The champion knows two of the labels: it judges those, and cross-validation the third.
    assert judged(ByFirstWord()) == {("billing", "champion"), ("music", "cross-validation")}


class TagByLetter:
    """Tags words with a capital letter; knows what it says."""

    label_space = LabelSpace(("O", "B-city"))
    temperature = 2.0

    def predict(self, inputs):
        raise AssertionError("the tags are judged by their scores")

    def predict_detailed(self, inputs):
        return [
            SimpleNamespace(
                logits=np.array(
                    [[-6.0, 6.0] if w[0].isupper() else [6.0, -6.0] for w in i["tokens"]]
                )
            )
            for i in inputs
        ]


def sentence(tokens, tags):
    return LabelledRecord(
        record_id=" ".join(tokens),
        inputs={"tokens": tuple(tokens)},
        target=tuple(tags),
        split="train",
        source="rows.conll",
        received_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def test_sentence_is_doubted_by_its_worst_word_and_shows_all_of_them():
    right = [sentence(["to", "Rome", str(i)], ["O", "B-city", "O"]) for i in range(20)]
    wrong = sentence(["Oslo", "to", "Rome", "now"], ["O", "O", "O", "B-city"])
    strange = sentence(["Bern", "so"], ["B-animal", "O"])  # the model does not know the type
    (issue,) = suspect_labels(TAGS, TagByLetter(), [*right, wrong, strange])
    assert issue.record_id == wrong.record_id
    assert [(w.word, w.given, w.suggested) for w in issue.words] == [
        (0, "O", "B-city"),
        (2, "O", "B-city"),
        (3, "B-city", "O"),
    ]
    assert issue.given_probability < 0.01
    assert issue.suggested_probability > 0.99
    shown = issue.to_json()
    assert [word["word"] for word in shown["words"]] == [0, 2, 3]
    # Texts stand in the segments alone: what a cycle writes down has none.
    assert "Oslo" not in str(shown["words"])


def test_rows_that_nothing_is_known_of_are_passed_over():
    record = sentence(["Oslo", "is"], ["O", "O"])
    nothing = np.full((2, 2), np.nan)
    assert doubtful(TAGS, ("O", "B-city"), [(record, nothing)]) == []
