import itertools

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from contlearn.interfaces import FieldNames, RowProblem
from contlearn.tasks.token_classification import TokenClassification, spans_of, valid_tags
from contlearn.types import Calibration, LabelSpace

TASK = TokenClassification()
FIELDS = FieldNames()


@pytest.fixture
def tokenizer():
    vocabulary = {
        "[PAD]": 0,
        "[UNK]": 1,
        "[CLS]": 2,
        "[SEP]": 3,
        "play": 4,
        "jo": 5,
        "##hn": 6,
        "now": 7,
    }
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def test_words_are_aligned_with_their_first_pieces(tokenizer):
    ((encoding,),) = TASK.encode(tokenizer, [{"tokens": ("play", "john", "now")}], 16)
    assert encoding.input_ids == (2, 4, 5, 6, 7, 3)
    assert encoding.word_starts == (1, 2, 4)


def test_words_beyond_the_limit_have_no_pieces_and_are_outside(tokenizer):
    inputs = {"tokens": ("play", "john", "now")}
    ((encoding,),) = TASK.encode(tokenizer, [inputs], 4)
    assert encoding.input_ids == (2, 4, 5, 3)
    assert encoding.truncated
    assert encoding.word_starts == (1, 2)
    space = LabelSpace(("O", "B-x", "I-x"))
    target = ("O", "B-x", "I-x")
    assert TASK.learn(target, (encoding,), space) == (0, 1)
    outputs = [{"logits": np.array([[9.0, 0, 0], [0, 9.0, 0]])}]
    prediction = TASK.decode(outputs, (encoding,), inputs, space, Calibration())
    assert prediction.target == ("O", "B-x", "O")


def test_bare_text_gives_entities_with_character_positions(tokenizer):
    inputs = TASK.read_inputs("play john, now", FIELDS)
    ((encoding,),) = TASK.encode(tokenizer, [inputs], 16)
    assert len(encoding.word_starts) == 4
    space = LabelSpace(("O", "B-x", "I-x"))
    logits = np.zeros((4, 3))
    logits[:, 0] = 3
    logits[1] = [0, 5, 0]
    found = TASK.decode([{"logits": logits}], (encoding,), inputs, space, Calibration())
    (entity,) = found.value["entities"]
    score = entity.pop("score")
    assert entity == {"start": 5, "end": 9, "text": "john", "type": "x"}
    assert 0.9 < score < 1.0
    assert found.confidence == score


def test_only_valid_sequences_come_out_and_the_best_of_them():
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.normal(size=(4, 5))
        chosen = valid_tags(scores, names)
        valid = [
            path
            for path in itertools.product(range(5), repeat=4)
            if all(
                not names[b].startswith("I-") or (a is not None and names[a][2:] == names[b][2:])
                for a, b in itertools.pairwise((None, *path))
            )
        ]
        best = max(valid, key=lambda path: sum(scores[i, t] for i, t in enumerate(path)))
        assert tuple(chosen) == best


def test_empty_sentence_has_no_tags():
    assert valid_tags(np.zeros((0, 3)), ("O", "B-x", "I-x")) == []


def test_metrics_equal_those_of_seqeval():
    generator = np.random.default_rng(1)
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    targets, answers = [], []
    for _ in range(60):
        scores = generator.normal(size=(8, 5))
        targets.append(tuple(names[i] for i in valid_tags(scores, names)))
        noisy = scores + generator.normal(size=scores.shape)
        answers.append(tuple(names[i] for i in valid_tags(noisy, names)))
    labels = LabelSpace(names)
    sums = TASK.statistics(answers, targets, labels).sum(axis=0)
    metrics = TASK.summarise(sums, labels)
    wanted, got = [list(t) for t in targets], [list(a) for a in answers]
    assert metrics["f1"] == pytest.approx(f1_score(wanted, got))
    assert metrics["precision"] == pytest.approx(precision_score(wanted, got))
    assert metrics["recall"] == pytest.approx(recall_score(wanted, got))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a"]}, "missing-field"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "wrong-type"),
        ({"tokens": ["a", 1], "tags": ["O", "O"]}, "wrong-type"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "length-mismatch"),
        ({"tokens": [], "tags": []}, "empty-text"),
        ({"tokens": ["a"], "tags": ["X-y"]}, "bad-tag"),
        ({"tokens": ["a"], "tags": ["I-y"]}, "bad-sequence"),
        ({"tokens": ["a", "b"], "tags": ["B-x", "I-y"]}, "bad-sequence"),
    ],
)
def test_wrong_row_has_its_reason(row, reason):
    with pytest.raises(RowProblem) as caught:
        TASK.read_fields(row, FIELDS)
    assert caught.value.reason == reason


def test_labels_grow_by_pairs_and_old_ones_stay():
    space = TASK.outputs(LabelSpace(("O", "B-z", "I-z")), [("B-a", "I-a", "O")])
    assert space.names == ("O", "B-z", "I-z", "B-a", "I-a")


def test_closed_set_may_name_types_or_tags():
    assert TASK.space_from_labels(["x"]).names == ("O", "B-x", "I-x")
    assert TASK.space_from_labels(["O", "B-x", "I-x"]).names == ("O", "B-x", "I-x")


def test_spans_are_whole_entities():
    assert spans_of(["B-x", "I-x", "O", "B-y"]) == [("x", 0, 2), ("y", 3, 4)]


def test_spans_equal_those_of_seqeval_for_every_short_sequence():
    tags = ("O", "B-x", "I-x", "B-y", "I-y", "I-a-b")
    for length in range(6):
        for sequence in itertools.product(tags, repeat=length):
            expected = [(kind, a, b + 1) for kind, a, b in get_entities(list(sequence))]
            assert spans_of(sequence) == expected, sequence


def test_key_of_a_record_is_its_types_joined_by_what_the_task_says():
    assert TASK.balance_key(("B-b", "O", "B-a", "I-a")) == "a+b" == TASK.key_separator.join("ab")
    assert TASK.labels_of_key("a+b") == ("a", "b")
    assert TASK.balance_key(("O", "O")) == "O"
    assert TASK.labels_of_key("O") == ()
