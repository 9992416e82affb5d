import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from contlearn.interfaces import FieldNames, RowProblem
from contlearn.tasks.text_classification import TextClassification
from contlearn.types import Calibration, Encoding, LabelSpace

TASK = TextClassification()
FIELDS = FieldNames()


def test_row_keeps_its_text_as_it_came_and_its_label_without_blanks_around():
    text = " Cafe\u0301 \n is  open "
    inputs, target = TASK.read_fields({"text": text, "label": "spam "}, FIELDS)
    assert inputs == {"text": text}
    assert target == "spam"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": "a"}, "missing-field"),
        ({"text": None, "label": "a"}, "missing-field"),
        ({"text": "x"}, "missing-field"),
        ({"text": 3, "label": "a"}, "wrong-type"),
        ({"text": "x", "label": ["a", "b"]}, "wrong-type"),
        ({"text": "x", "label": True}, "wrong-type"),
        ({"text": " \t\u200b", "label": "a"}, "empty-text"),
        ({"text": "a\x00b", "label": "a"}, "control-char"),
        ({"text": "\ud83d x", "label": "a"}, "bad-encoding"),
    ],
)
def test_wrong_row_has_its_reason(row, reason):
    with pytest.raises(RowProblem) as caught:
        TASK.read_fields(row, FIELDS)
    assert caught.value.reason == reason
    assert caught.value.message


def test_metrics_equal_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    names = ("a", "b", "c", "never")
    targets = [names[i] for i in generator.integers(0, 3, 200)]
    answers = [t if generator.random() < 0.6 else names[generator.integers(0, 3)] for t in targets]
    labels = LabelSpace(names)
    sums = TASK.statistics(answers, targets, labels).sum(axis=0)
    metrics = TASK.summarise(sums, labels)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(targets, answers))
    assert metrics["macro_f1"] == pytest.approx(f1_score(targets, answers, average="macro"))
    assert metrics["micro_f1"] == pytest.approx(f1_score(targets, answers, average="micro"))
    expected = precision_recall_fscore_support(targets, answers, labels=["a", "b", "c"])
    for i, score in enumerate(TASK.per_label(sums, labels)):
        assert (score.precision, score.recall, score.f1) == pytest.approx(
            (expected[0][i], expected[1][i], expected[2][i])
        )
        assert score.support == expected[3][i]
    confusion = TASK.confusion(answers, targets)
    assert confusion["matrix"] == confusion_matrix(targets, answers).tolist()


def test_metrics_work_over_many_resamples_at_once():
    labels = LabelSpace(("a", "b"))
    counts = TASK.statistics(["a", "b", "a"], ["a", "a", "b"], labels)
    weights = np.array([[1, 1, 1], [3, 0, 0]])
    metrics = TASK.summarise(weights @ counts, labels)
    assert metrics["accuracy"].tolist() == pytest.approx([1 / 3, 1.0])


def test_new_labels_are_appended_and_old_ones_stay():
    space = TASK.outputs(LabelSpace(("z", "m")), ["b", "z", "a"])
    assert space.names == ("z", "m", "a", "b")


def test_decoding_softens_confidence_by_the_temperature():
    space = LabelSpace(("a", "b"))
    encodings = (Encoding(input_ids=(1,)),)
    outputs = [{"logits": np.array([2.0, 0.0])}]
    sharp = TASK.decode(outputs, encodings, {}, space, Calibration())
    soft = TASK.decode(outputs, encodings, {}, space, Calibration(temperature=4.0))
    assert sharp.target == soft.target == "a"
    assert sharp.confidence == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert soft.confidence == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_target_of_another_task_is_a_fault_of_the_program_and_no_wrong_row():
    with pytest.raises(TypeError, match="a class is one text"):
        TASK.labels_of(("O", "B-x"))
