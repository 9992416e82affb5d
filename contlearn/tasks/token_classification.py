"""Entity recognition: words with BIO tags."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from contlearn.interfaces import FieldNames, GraphKind, HeadSpec, RowProblem, Tokenizer
from contlearn.statistics.scores import log_softmax
from contlearn.tasks.others import type_name
from contlearn.tasks.rows import clean_text, need_field
from contlearn.tasks.spans import OUTSIDE, placed_words, spans_of, split_words
from contlearn.tasks.vocabulary import unknown_id
from contlearn.types import (
    Encoding,
    Entity,
    EntityPrediction,
    Inputs,
    LabelScore,
    LabelSpace,
    Prediction,
    Target,
    Unread,
    label_name,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["TokenClassification", "spans_of", "split_words", "valid_tags"]

_TWO_TAGS: Final = re.compile(r"\|(?:[BIESLU]-|O$)")


def valid_tags(scores: FloatArray, names: Sequence[str]) -> list[int]:
    """Find the best-scoring sequence of tags in which no I- stands without its B- or I-.

    Shape: scores (words, C), log-probabilities or logits.
    Source: Viterbi, "Error Bounds for Convolutional Codes", 1967, with transitions of cost 0 or
    infinity.
    """
    import numpy as np

    if len(scores) == 0:
        return []
    # allowed[i, j]: tag j may follow tag i.
    allowed = np.zeros((len(names), len(names)))
    begins = np.zeros(len(names))
    for j, name in enumerate(names):
        if name.startswith("I-"):
            begins[j] = -np.inf
            for i, before in enumerate(names):
                if before[2:] != name[2:] or before == OUTSIDE:
                    allowed[i, j] = -np.inf
    best = np.asarray(scores[0], dtype=np.float64) + begins
    back = []
    for row in scores[1:]:
        paths = best[:, None] + allowed
        back.append(paths.argmax(axis=0))
        best = paths.max(axis=0) + row
    tags = [int(best.argmax())]
    for pointers in reversed(back):
        tags.append(int(pointers[tags[-1]]))
    return tags[::-1]


class TokenClassification:
    """Typed spans of words.

    Statistics of a row, for T types: (spans found right, spans expected, spans predicted) for each
    type, then (words tagged right, words), so S = 3 T + 2.
    """

    name: ClassVar[str] = "token-classification"
    summary: ClassVar[str] = "entities: typed spans of words, as BIO tags"
    graph: ClassVar[GraphKind] = "token-classification"
    primary_metric: ClassVar[str] = "f1"
    metrics: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")

    def needed_fields(self, fields: FieldNames) -> tuple[str, ...]:
        """Name the fields that a labelled row must have."""
        return (fields.tokens, fields.tags)

    def read_fields(self, row: Mapping[str, object], fields: FieldNames) -> tuple[Inputs, Target]:
        """Take the words and their tags out of a row, checked against each other."""
        words = _words(need_field(row, fields.tokens), fields.tokens)
        tags = need_field(row, fields.tags)
        if not isinstance(tags, list | tuple):
            raise RowProblem(
                "wrong-type",
                f"The field {fields.tags!r} is a {type_name(tags)}, not a list.",
                "Give one tag per word, as a list.",
            )
        for position, tag in enumerate(tags):
            if not isinstance(tag, str):
                raise RowProblem(
                    "wrong-type",
                    f"Tag {position + 1} is a {type_name(tag)}, not text.",
                    "Write tags as text: O, B-type, I-type.",
                )
        if len(tags) != len(words):
            raise RowProblem(
                "length-mismatch",
                f"There are {len(words)} words but {len(tags)} tags.",
                "Give exactly one tag per word.",
            )
        return {"tokens": words}, _checked_tags(tags)

    def read_inputs(self, row: Mapping[str, object] | str, fields: FieldNames) -> Inputs:
        """Take words out of a row, or split a bare text into words, keeping their positions."""
        if isinstance(row, str):
            return {"text": clean_text(row, fields.text)}
        if row.get(fields.tokens) is None and isinstance(row.get(fields.text), str):
            return {"text": clean_text(row[fields.text], fields.text)}
        return {"tokens": _words(need_field(row, fields.tokens), fields.tokens)}

    def text_of(self, inputs: Inputs) -> str:
        """Give the text, words joined by blanks."""
        if "text" in inputs:
            return str(inputs["text"])
        return " ".join(inputs["tokens"])

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the entity types."""
        return tuple(dict.fromkeys(tag[2:] for tag in _tags(target) if tag != OUTSIDE))

    def balance_key(self, target: Target) -> str:
        """Balance replay over the set of entity types in a sentence."""
        return "+".join(sorted(self.labels_of(target))) or OUTSIDE

    def extend_labels(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Append B- and I- of each new type, sorted by type; O stands first."""
        types = sorted({label for target in targets for label in self.labels_of(target)})
        return space.extended([OUTSIDE]).extended(
            prefix + kind for kind in types for prefix in ("B-", "I-")
        )

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Make the tags of a closed set of types; tags may be listed too."""
        types = dict.fromkeys(
            label[2:] if label.startswith(("B-", "I-")) else label
            for label in labels
            if label != OUTSIDE
        )
        return LabelSpace((OUTSIDE,)).extended(p + kind for kind in types for p in ("B-", "I-"))

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """One row of tag scores a word."""
        return (HeadSpec(name="logits", per="word", labels=space),)

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise words and remember where each begins; what is over the limit is cut.

        A word of which the tokenizer makes no piece stands alone in that: all others keep theirs.
        """
        unknown = unknown_id(tokenizer)
        batch = [[word for word, _, _ in placed_words(item)] for item in inputs]
        encodings: list[tuple[Encoding, ...]] = []
        for words, item in zip(
            batch, tokenizer.encode_batch(batch, is_pretokenized=True), strict=True
        ):
            ids, end = item.ids, len(item.ids)
            truncated = len(ids) > max_tokens
            if truncated:
                # The last id ends the text; it is kept, and no word is looked for in its place.
                ids, end = ids[: max_tokens - 1] + ids[-1:], max_tokens - 1
            starts: dict[int, int] = {}
            for position, word in enumerate(item.word_ids):
                if word is not None:
                    starts.setdefault(word, position)
            read = [word for word in range(len(words)) if starts.get(word, end) < end]
            encodings.append(
                (
                    Encoding(
                        input_ids=tuple(ids),
                        word_starts=tuple(starts[word] for word in read),
                        truncated=truncated,
                        unknown_pieces=ids.count(unknown) if unknown is not None else 0,
                        words=tuple(read),
                        lost_words=tuple(w for w in range(len(words)) if w not in starts),
                        cut_words=tuple(w for w in sorted(starts) if starts[w] >= end),
                    ),
                )
            )
        return encodings

    def encode_target(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[int, ...]:
        """Give the tag positions of the words that were encoded.

        Where the first words of an entity have no pieces, the first that has some begins it.
        """
        index, tags, read = space.index(), _tags(target), _read_words(encodings)
        begins: dict[int, str] = {}
        known = set(read)
        for kind, first, end in spans_of(tags):
            if first not in known:
                inside = [word for word in read if first < word < end]
                begins |= {min(inside): f"B-{kind}"} if inside else {}
        return tuple(index[begins.get(word, tags[word])] for word in read)

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        """Give the best valid tags and their spans; words that were not read are outside."""
        import numpy as np

        logits = np.concatenate([np.asarray(o["logits"], dtype=np.float64) for o in outputs])
        logs = log_softmax(logits, temperature)
        chosen = valid_tags(logs, space.names)
        places, read = placed_words(inputs), _read_words(encodings)
        tags = [OUTSIDE] * len(places)
        certain: dict[int, float] = {}
        for row, (word, tag) in enumerate(zip(read, chosen, strict=True)):
            tags[word] = space.names[tag]
            certain[word] = logs[row, tag]
        for word in sorted(certain):
            # What stands between this word and the beginning of its entity was not read.
            if tags[word].startswith("I-") and tags[word - 1][2:] != tags[word][2:]:
                tags[word] = "B-" + tags[word][2:]
        text = self.text_of(inputs)
        entities = []
        for kind, first, end in spans_of(tags):
            start_char, end_char = places[first][1], places[end - 1][2]
            score = float(np.exp(np.mean([certain[w] for w in range(first, end)])))
            entities.append(
                Entity(
                    start=start_char,
                    end=end_char,
                    type=kind,
                    text=text[start_char:end_char],
                    score=score,
                )
            )
        return EntityPrediction(
            entities=tuple(entities), tags=tuple(tags), unread=_unread(encodings, places)
        )

    def answer(self, prediction: Prediction) -> Target:
        """Give the tags."""
        if not isinstance(prediction, EntityPrediction):
            raise TypeError("not an entity prediction")
        return prediction.tags

    def statistics(
        self, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
    ) -> FloatArray:
        """Count right, expected and predicted spans of each type, and right words."""
        import numpy as np

        types = _types(labels)
        index, size = {kind: i for i, kind in enumerate(types)}, len(types)
        counts = np.zeros((len(targets), 3 * size + 2), dtype=np.float32)
        for row, (answer, target) in enumerate(zip(answers, targets, strict=True)):
            expected, predicted = set(spans_of(_tags(target))), set(spans_of(_tags(answer)))
            for kind, _, _ in expected & predicted:
                counts[row, index[kind]] += 1
            for kind, _, _ in expected:
                counts[row, size + index[kind]] += 1
            for kind, _, _ in predicted:
                counts[row, 2 * size + index[kind]] += 1
            pairs = list(zip(_tags(answer), _tags(target), strict=True))
            counts[row, 3 * size] = sum(a == t for a, t in pairs)
            counts[row, 3 * size + 1] = len(pairs)
        return counts

    def summarise(self, sums: FloatArray, labels: LabelSpace) -> dict[str, FloatArray]:
        """Give micro precision, recall and F1 of whole entities, and the share of right words.

        Source: seqeval (CoNLL evaluation, strict spans).
        """
        import numpy as np

        size = len(_types(labels))
        sums = np.asarray(sums, dtype=np.float64)
        hits = sums[..., :size].sum(axis=-1)
        expected = sums[..., size : 2 * size].sum(axis=-1)
        predicted = sums[..., 2 * size : 3 * size].sum(axis=-1)

        def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
            result: FloatArray = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
            return result

        return {
            "precision": ratio(hits, predicted),
            "recall": ratio(hits, expected),
            "f1": ratio(2 * hits, expected + predicted),
            "word_accuracy": ratio(sums[..., 3 * size], sums[..., 3 * size + 1]),
        }

    def per_label(self, sums: FloatArray, labels: LabelSpace) -> tuple[LabelScore, ...]:
        """Give precision, recall and F1 of every entity type that occurs."""
        import numpy as np

        types = _types(labels)
        size = len(types)
        sums = np.asarray(sums, dtype=np.float64)
        scores = []
        for i, kind in enumerate(types):
            hits, expected, predicted = sums[i], sums[size + i], sums[2 * size + i]
            if expected + predicted > 0:
                scores.append(
                    LabelScore(
                        label=kind,
                        precision=float(hits / predicted) if predicted else 0.0,
                        recall=float(hits / expected) if expected else 0.0,
                        f1=float(2 * hits / (expected + predicted)),
                        support=int(expected),
                    )
                )
        return tuple(scores)

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        """Count, word by word, each pair of expected type (row) and predicted type (column)."""

        def kind(tag: str) -> str:
            return tag if tag == OUTSIDE else tag[2:]

        pairs = [
            (kind(t), kind(a))
            for answer, target in zip(answers, targets, strict=True)
            for a, t in zip(_tags(answer), _tags(target), strict=True)
        ]
        names = sorted({name for pair in pairs for name in pair})
        index = {name: i for i, name in enumerate(names)}
        matrix = [[0] * len(names) for _ in names]
        for expected, predicted in pairs:
            matrix[index[expected]][index[predicted]] += 1
        return {"labels": names, "matrix": matrix}


def _types(labels: LabelSpace) -> list[str]:
    return list(dict.fromkeys(name[2:] for name in labels.names if name != OUTSIDE))


def _tags(target: Target) -> tuple[str, ...]:
    if isinstance(target, str):
        raise TypeError("tags are a sequence, one per word")
    return target


def _read_words(encodings: Sequence[Encoding]) -> list[int]:
    """Give the word that each row of scores is for, over all encodings of a record."""
    read: list[int] = []
    for encoding in encodings:
        # An encoding of somebody else's task may leave the words out: then none is missing.
        first = len(read)
        read.extend(encoding.words or range(first, first + len(encoding.word_starts)))
    return read


def _unread(
    encodings: Sequence[Encoding], places: Sequence[tuple[str, int, int]]
) -> tuple[Unread, ...]:
    """Say which words were not read: each without pieces, and what is cut as one."""
    read = {word for encoding in encodings for word in encoding.words}
    lost = {word for encoding in encodings for word in encoding.lost_words} - read
    cut = {word for encoding in encodings for word in encoding.cut_words} - read
    found = [Unread(start=places[w][1], end=places[w][2], reason="no-pieces") for w in sorted(lost)]
    if cut:
        start, end = places[min(cut)][1], places[max(cut)][2]
        found.append(Unread(start=start, end=end, reason="cut"))
    return tuple(found)


def _words(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise RowProblem(
            "wrong-type",
            f"The field {name!r} is a {type_name(value)}, not a list.",
            "Give the words as a list of texts.",
        )
    if not value:
        raise RowProblem("empty-text", f"The field {name!r} is empty.", "Leave the row out.")
    return tuple(clean_text(word, name) for word in value)


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    before = OUTSIDE
    checked = []
    for position, tag in enumerate(map(_clean_tag, tags), start=1):
        if tag != OUTSIDE and not (tag[:2] in ("B-", "I-") and tag[2:]):
            raise RowProblem(
                "bad-tag",
                f"Tag {position} is {tag!r}, which is not O, B-type or I-type.",
                "Use the BIO scheme.",
            )
        if _TWO_TAGS.search(tag):
            raise RowProblem(
                "bad-tag",
                f"Tag {position} is {tag!r}: two tags on one word. This workspace's task is "
                "token-classification, with one tag a word; entities within entities are none of "
                "its tasks.",
                "Keep the outer tag.",
            )
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise RowProblem(
                "bad-sequence",
                f"Tag {position} is {tag!r} after {before!r}; no {tag[2:]} begins before it.",
                f"Write B-{tag[2:]} where the entity begins.",
            )
        before = tag
        checked.append(tag)
    return tuple(checked)


@functools.lru_cache(maxsize=8192)
def _clean_tag(tag: str) -> str:
    """Give a tag as it is kept: without blanks around it or its type."""
    tag = label_name(tag)
    return tag[:2] + label_name(tag[2:]) if tag[1:2] == "-" else tag
