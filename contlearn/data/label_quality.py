"""Likely wrong labels, by confident learning; they are listed with evidence, never changed.

The answers must be out of sample: of a model on records that it has not learnt. For the champion
these are held-out records and those that wait to be learnt; what a cycle has just learnt is judged
by the champion that it started from, and where there was none, or it did not know a label, by
cross-validation. How sure a model is of a class when it is right is taken from what it was proved
on, its held-out rows: a batch in which a whole class has another name says nothing of that. Words
are judged like texts, and a sentence by its worst word. A task that answers with free text has no
labels whose probabilities could be compared.

The well-known library for this, cleanlab, is under the AGPL, which does not go with Apache-2.0;
what is needed of the method is a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import sqlalchemy as sa

from contlearn.catalog import Catalog
from contlearn.catalog.counting import OPEN_STATES, counts
from contlearn.catalog.schema import records
from contlearn.interfaces import Predictor, Task
from contlearn.statistics.scores import softmax
from contlearn.types import LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from contlearn.types import FloatArray, IntArray

    # A record, and what a model that has not learnt it says: the probabilities of its text, (C,),
    # or of its first words, (words, C). A row of NaN says nothing.
    Opinion: TypeAlias = tuple[LabelledRecord, FloatArray]
    CrossValidation: TypeAlias = Callable[
        [Sequence[LabelledRecord]], tuple[LabelSpace, Sequence[Opinion]]
    ]

__all__ = [
    "LabelIssue",
    "Proof",
    "WordIssue",
    "ask_opinions",
    "confident_issues",
    "count_pairs",
    "doubtful",
    "is_known_to",
    "judge_cycle",
    "opinions_of",
    "out_of_sample_ids",
    "prove",
    "suspect_labels",
]

# A label is doubted only where another one is so much more probable: whoever looks through the list
# should find mistakes in it. A sentence has many words and as many chances for an error of the
# model: there, the other label must have half of the probability too.
_ODDS: Final = 5.0
_WORD_SHARE: Final = 0.5
_ROUNDING: Final = 1e-9
# So many doubtful words of one sentence are listed.
_MAX_WORDS: Final = 10
# So many pairs of labels are told, those with the most doubts.
_MAX_PAIRS: Final = 10


@runtime_checkable
class _TagScorer(Protocol):
    """The part of a predictor that gives the scores of each word."""

    temperature: float

    def predict_detailed(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Give one answer an input, with `logits` (words, C)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WordIssue:
    """A word whose tag is doubtful; `word` counts from 0."""

    word: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float

    def to_json(self) -> dict[str, object]:
        """Give the entry of `words[]`."""
        return {
            "word": self.word,
            "given": self.given,
            "suggested": self.suggested,
            "given_probability": round(self.given_probability, 4),
            "suggested_probability": round(self.suggested_probability, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIssue:
    """A record whose label is doubtful, the label that is likely meant, and why.

    `given_probability` and `suggested_probability` are the model's; `threshold` is the mean
    probability of the suggested label over the rows of the proof that have it. Of a sentence they
    are those of its worst word, and `words` holds all its doubtful ones. `judge` says what the
    model was.
    """

    record_id: str
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float
    threshold: float
    source: str
    words: tuple[WordIssue, ...] = ()
    judge: str = "champion"

    def to_json(self) -> dict[str, object]:
        """Give the issue as `data suspects --json` prints it."""
        found: dict[str, object] = {
            "record_id": self.record_id,
            "given": self.given,
            "suggested": self.suggested,
            "given_probability": round(self.given_probability, 4),
            "suggested_probability": round(self.suggested_probability, 4),
            "threshold": round(self.threshold, 4),
            "source": self.source,
            "judge": self.judge,
        }
        if self.words:
            found["words"] = [word.to_json() for word in self.words[:_MAX_WORDS]]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How sure a model is of each label on rows that have it: what it was proved on.

    Args:
        means: The mean probability of each label over the rows that have it.
        rows: How many these are.
    """

    means: Mapping[str, float]
    rows: Mapping[str, int]

    def thresholds(self, names: Sequence[str]) -> FloatArray:
        """Give the threshold of each label; one without rows has the mean of all rows."""
        total = sum(self.rows.values())
        overall = sum(self.means[name] * number for name, number in self.rows.items())
        overall = overall / total if total else np.inf
        return np.array([self.means.get(name, overall) for name in names])

    def to_json(self) -> dict[str, object]:
        """Give what `from_json` reads."""
        return {
            "labels": {
                name: {"rows": number, "mean": round(self.means[name], 6)}
                for name, number in self.rows.items()
            }
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Proof:
        """Read what `to_json` gave."""
        labels = value["labels"].items()
        return cls(
            means={str(name): float(one["mean"]) for name, one in labels},
            rows={str(name): int(one["rows"]) for name, one in labels},
        )


def prove(task: Task, names: Sequence[str], opinions: Sequence[Opinion]) -> Proof:
    """Say how sure a model is of each label, from its opinions of held-out records.

    Example:
        >>> from types import SimpleNamespace
        >>> from contlearn.tasks.text_classification import TextClassification
        >>> rows = [SimpleNamespace(target=name) for name in ("no", "no", "yes")]
        >>> shown = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
        >>> prove(TextClassification(), ("no", "yes"), list(zip(rows, shown)))
        Proof(means={'no': 0.8, 'yes': 0.8}, rows={'no': 2, 'yes': 1})
    """
    shown, given, _ = _table(task, names, opinions)
    if not len(given):
        return Proof(means={}, rows={})
    own = shown[np.arange(len(given)), given]
    number = np.bincount(given, minlength=len(names))
    sums = np.bincount(given, weights=own, minlength=len(names))
    there = np.flatnonzero(number).tolist()
    return Proof(
        means={names[i]: float(sums[i] / number[i]) for i in there},
        rows={names[i]: int(number[i]) for i in there},
    )


def confident_issues(
    probabilities: FloatArray, given: IntArray, *, thresholds: FloatArray | None = None
) -> tuple[IntArray, FloatArray]:
    """Find rows that are confidently of another class than the one they were given.

    The threshold of a class is the mean probability of that class over the rows that have it. A
    row counts for every class whose threshold it reaches, and is assigned to the most probable of
    these; one that is assigned to another class than its own is an issue.

    Args:
        probabilities: Of each class, out of sample.
        given: The position of each row's own class.
        thresholds: Of each class, from rows that prove more than these.
    Returns:
        For each row the class it is confidently of (its own when there is no issue), and the
        thresholds; a class without rows has an infinite one.
    Shape: probabilities (n, C), given (n,); the answers (n,) and (C,).
    Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", 2021, the confident joint and the rule "prune by off-diagonals".
    Example:
        >>> shown = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> found, _ = confident_issues(shown, np.array([0, 0, 1, 1, 1]))
        >>> found.tolist()
        [0, 0, 1, 1, 0]
    """
    rows, classes = probabilities.shape
    if thresholds is None:
        own = probabilities[np.arange(rows), given]
        number = np.bincount(given, minlength=classes)
        sums = np.bincount(given, weights=own, minlength=classes)
        thresholds = np.where(number > 0, sums / np.maximum(number, 1), np.inf)
    # The mean of equal numbers may be rounded to more than each.
    reached = np.where(probabilities >= thresholds - _ROUNDING, probabilities, -1.0)
    best = reached.argmax(axis=1)
    sure = reached[np.arange(rows), best] > 0
    return np.where(sure, best, given), thresholds


def doubtful(
    task: Task, names: Sequence[str], opinions: Sequence[Opinion], *, proof: Proof | None = None
) -> list[LabelIssue]:
    """List the records whose labels are likely wrong, the most doubtful first.

    Labels that the model does not know say nothing about it; their texts or words are left out.

    Args:
        task: Whose records they are; it gives "probabilities".
        names: The labels that the probabilities are of.
        opinions: The records with what a model says that has not learnt them.
        proof: How sure the model is of each label; without it these records are all there is.
    Source: for words, and a sentence by its worst one: Wang and Mueller, "Detecting Label Errors in
    Token Classification Data", 2022.
    """
    shown, labels, places = _table(task, names, opinions)
    if len(names) < 2 or not places:
        return []
    needed = None if proof is None or not proof.rows else proof.thresholds(names)
    confident, thresholds = confident_issues(shown, labels, thresholds=needed)
    issues: dict[int, list[tuple[WordIssue, float]]] = {}
    every = np.arange(len(labels))
    likely, own = shown[every, confident], shown[every, labels]
    for row in np.flatnonzero((confident != labels) & (likely >= _ODDS * own)).tolist():
        number, word = places[row]
        if _has_words(opinions[number]) and likely[row] < _WORD_SHARE:
            continue
        issue = WordIssue(
            word=word,
            given=names[labels[row]],
            suggested=names[confident[row]],
            given_probability=float(own[row]),
            suggested_probability=float(likely[row]),
        )
        issues.setdefault(number, []).append((issue, float(thresholds[confident[row]])))
    found = [_issue(opinions[number], words) for number, words in issues.items()]
    return sorted(found, key=_margin)


def _has_words(opinion: Opinion) -> bool:
    return opinion[1].ndim == 2


def _table(
    task: Task, names: Sequence[str], opinions: Sequence[Opinion]
) -> tuple[FloatArray, IntArray, list[tuple[int, int]]]:
    """Put opinions into one table: probabilities, labels, and the record and word of each row."""
    index = {name: position for position, name in enumerate(names)}
    rows, given, places = [], [], []
    for number, (record, probabilities) in enumerate(opinions):
        table = np.atleast_2d(probabilities)
        # Words beyond the token limit have no answer.
        units = task.units(record.target)
        for word, (label, row) in enumerate(zip(units, table, strict=False)):
            if label in index and not np.isnan(row[0]):
                rows.append(row)
                given.append(index[label])
                places.append((number, word))
    return np.array(rows, dtype=np.float64), np.array(given, dtype=np.int64), places


def count_pairs(
    task: Task, issues: Sequence[LabelIssue], items: Sequence[LabelledRecord]
) -> list[dict[str, object]]:
    """Count which label is doubted in favour of which: a class that has another's name stands out.

    Args:
        task: Whose records they are.
        issues: What is in doubt.
        items: The records that were looked at.
    Returns:
        The pairs with the most doubts: `given`, `suggested`, `number`, and `of`: how many of the
        records looked at have the given label. Of tags it is the types that are named.
    """

    def named(unit: str) -> str:
        return task.unit_label(unit) or unit

    pairs = Counter((named(issue.given), named(issue.suggested)) for issue in issues)
    of = Counter(
        name for item in items for name in {named(unit) for unit in task.units(item.target)}
    )
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"given": given, "suggested": suggested, "number": number, "of": of[given]}
        for (given, suggested), number in ordered[:_MAX_PAIRS]
    ]


def _margin(issue: LabelIssue | WordIssue) -> float:
    return issue.given_probability - issue.suggested_probability


def _issue(opinion: Opinion, words: Sequence[tuple[WordIssue, float]]) -> LabelIssue:
    record = opinion[0]
    worst, threshold = min(words, key=lambda one: _margin(one[0]))
    return LabelIssue(
        record_id=record.record_id,
        given=worst.given,
        suggested=worst.suggested,
        given_probability=worst.given_probability,
        suggested_probability=worst.suggested_probability,
        threshold=threshold,
        source=record.source,
        words=tuple(word for word, _ in words) if _has_words(opinion) else (),
    )


def suspect_labels(
    task: Task,
    predictor: Predictor,
    items: Sequence[LabelledRecord],
    *,
    proof: Proof | None = None,
) -> list[LabelIssue]:
    """List the records whose labels are likely wrong, the most doubtful first.

    Args:
        task: Whose records they are; it gives "probabilities".
        predictor: A model that has not learnt these records.
        items: The records.
        proof: How sure it is of each label, by its held-out rows.
    """
    opinions = ask_opinions(task, predictor, items)
    return doubtful(task, predictor.label_space.names, opinions, proof=proof)


def ask_opinions(
    task: Task, predictor: Predictor, items: Sequence[LabelledRecord]
) -> list[Opinion]:
    """Ask a model for the probabilities of each record's text, or of its words."""
    names, inputs = predictor.label_space.names, [record.inputs for record in items]
    if "scores" in task.gives:
        scores = [one.scores or {} for one in predictor.predict(inputs)] if inputs else []
        return [
            (record, np.array([of_record.get(name, 0.0) for name in names]))
            for record, of_record in zip(items, scores, strict=True)
        ]
    if not inputs or not isinstance(predictor, _TagScorer):
        return []
    detailed = predictor.predict_detailed(inputs)
    return opinions_of(items, [one.logits for one in detailed], predictor.temperature)


def opinions_of(
    items: Sequence[LabelledRecord], logits: Sequence[FloatArray], temperature: float
) -> list[Opinion]:
    """Put a model's scores to the records that they are of."""
    return [
        (record, softmax(scores, temperature)) for record, scores in zip(items, logits, strict=True)
    ]


def out_of_sample_ids(catalog: Catalog, *, limit: int) -> list[str]:
    """Give the newest records that no champion has learnt: held out, or waiting to be learnt."""
    query = (
        sa.select(records.c.record_id)
        .where(
            counts(),
            sa.or_(records.c.split == "held_out", records.c.state.in_(OPEN_STATES)),
        )
        .order_by(records.c.seq.desc())
        .limit(limit)
    )
    with catalog.read() as connection:
        return list(connection.execute(query).scalars())


def judge_cycle(
    task: Task,
    new: Sequence[LabelledRecord],
    held_out: Sequence[LabelledRecord],
    *,
    before: Predictor | None,
    after: Predictor,
    proof: Proof | None = None,
    cross_validate: CrossValidation | None = None,
    look_at: int = 1_000,
    keep: int = 100,
) -> dict[str, object]:
    """Look through a cycle's records for labels that are likely wrong.

    Args:
        task: Whose records they are; it gives "probabilities".
        new: What the cycle has learnt; judged by the model it started from.
        held_out: What it measures on; judged likewise, as the new model may have learnt a wrong
            label from the same batch.
        before: The champion at the start, if there was one.
        after: The challenger; judges what is measured on where `before` does not know the labels.
        proof: How sure `before` is of each label.
        cross_validate: Judges what was learnt and `before` cannot judge.
        look_at: How many records a model is asked about at most, the newest.
        keep: How many are listed, the most doubtful.
    Returns:
        `looked_at`, `number`, `pairs`, and `suspects` as `data suspects --json` prints them.
    """

    def is_strange(record: LabelledRecord) -> bool:
        return before is None or not is_known_to(task, before, record)

    measured = [record for record in held_out if is_strange(record)][-look_at:]
    issues = [replace(i, judge="challenger") for i in suspect_labels(task, after, measured)]
    seen = list(measured)
    if before is not None:
        for some in (held_out, new):
            judged = [record for record in some if not is_strange(record)][-look_at:]
            issues += suspect_labels(task, before, judged, proof=proof)
            seen += judged
    strange = {record.record_id for record in new if is_strange(record)}
    if strange and cross_validate is not None:
        space, opinions = cross_validate(new)
        issues += [
            replace(issue, judge="cross-validation")
            for issue in doubtful(task, space.names, opinions)
            if issue.record_id in strange
        ]
        seen += [record for record, _ in opinions if record.record_id in strange]
    issues.sort(key=_margin)
    return {
        "looked_at": len(seen),
        "number": len(issues),
        "pairs": count_pairs(task, issues, seen),
        "suspects": [issue.to_json() for issue in issues[:keep]],
    }


def is_known_to(task: Task, predictor: Predictor, record: LabelledRecord) -> bool:
    """Say whether a model knows all labels of a record."""
    return set(predictor.label_space.names).issuperset(task.units(record.target))
