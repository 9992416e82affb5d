"""Entity recognition: words with BIO tags."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from contlearn.interfaces import (
    Field,
    FieldNames,
    HeadSpec,
    Labelling,
    Output,
    RowProblem,
    Tokenizer,
)
from contlearn.statistics.scores import log_softmax
from contlearn.tasks.base import TaskBase
from contlearn.tasks.beginnings import encode_words
from contlearn.tasks.others import type_name
from contlearn.tasks.rows import clean_text, clean_words, need_field, normal_text
from contlearn.tasks.spans import (
    OUTSIDE,
    placed_words,
    span_key,
    spans_of,
    split_words,
    tags_from_spans,
)
from contlearn.tasks.vocabulary import unknown_id
from contlearn.types import (
    Calibration,
    Encoding,
    Entity,
    Inputs,
    LabelScore,
    LabelSpace,
    Metric,
    Prediction,
    Target,
    Unread,
    label_name,
)
from contlearn.wording import quoted

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = ["TokenClassification", "entity_prediction", "spans_of", "split_words", "valid_tags"]

_SHOWN: Final = 80
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


def entity_prediction(
    entities: Sequence[Entity], tags: Sequence[str], unread: Sequence[Unread] = ()
) -> Prediction:
    """Make the prediction of entities and of the valid BIO tags that they came from.

    Args:
        entities: Those found in the text.
        tags: One for each word.
        unread: What the model did not see of the text; mostly nothing.
    """
    value: dict[str, Any] = {
        "entities": [
            {"start": e.start, "end": e.end, "type": e.type, "text": e.text, "score": e.score}
            for e in entities
        ]
    }
    if unread:
        value["unread"] = [item.to_json() for item in unread]
    return Prediction(
        value=value,
        target=tuple(tags),
        labels=tuple(dict.fromkeys(entity.type for entity in entities)),
        # As sure as of the least certain entity; of a text without any nothing is said.
        confidence=min((entity.score for entity in entities), default=None),
        key=span_key(tags),
    )


class TokenClassification(TaskBase):
    """Typed spans of words.

    Statistics of a row, for T types: (spans found right, spans expected, spans predicted) for each
    type, then (words tagged right, words), so S = 3 T + 2.
    """

    name: ClassVar[str] = "token-classification"
    summary: ClassVar[str] = "entities: typed spans of words, as BIO tags"
    pipeline: ClassVar[str | None] = "token-classification"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("tokens", "words", example=["to", "Rome"]),
        Field("tags", "tags", is_target=True),
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="precision"),
        Metric(name="recall"),
        Metric(name="f1"),
    )
    primary_metric: ClassVar[str] = "f1"
    gives: ClassVar[frozenset[str]] = frozenset(("classes", "probabilities"))
    labelling: ClassVar[Labelling] = "spans"
    key_separator: ClassVar[str] = "+"
    label_reason: ClassVar[str] = "bad-tag"

    def tidy(
        self, row: Mapping[str, object], names: FieldNames, known: Container[str]
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        """Say where blanks around a tag are left out; `read_fields` leaves them out."""
        value = row.get(names.tags)
        for tag in value if isinstance(value, list | tuple) else ():
            if isinstance(tag, str) and unicodedata.normalize("NFC", tag) != _clean_tag(tag):
                said = f"The blanks around the tag {quoted(tag, _SHOWN)} are left out."
                return row, (("blanks", said),)
        return row, ()

    def read_fields(self, row: Mapping[str, object], names: FieldNames) -> tuple[Inputs, Target]:
        """Take the words and their tags out of a row, checked against each other."""
        words = clean_words(need_field(row, names.tokens), names.tokens)
        tags = need_field(row, names.tags)
        if not isinstance(tags, list | tuple):
            raise RowProblem(
                "wrong-type",
                f"The field {names.tags!r} is a {type_name(tags)}, not a list.",
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

    def read_inputs(self, row: Mapping[str, object] | str, names: FieldNames) -> Inputs:
        """Take words out of a row, or split a bare text into words, keeping their positions."""
        if isinstance(row, str):
            return {"text": clean_text(row, names.text)}
        if row.get(names.tokens) is None and isinstance(row.get(names.text), str):
            return {"text": clean_text(row[names.text], names.text)}
        return {"tokens": clean_words(need_field(row, names.tokens), names.tokens)}

    def probe(self, text: str) -> Inputs:
        """Give the text: its words are found as a server finds them."""
        return {"text": text}

    def text_of(self, inputs: Inputs) -> str:
        """Give the text, words joined by blanks."""
        if "text" in inputs:
            return str(inputs["text"])
        return " ".join(inputs["tokens"])

    def normal_of(self, inputs: Inputs) -> str:
        """Give the words, as records have them; a text is parted into words first."""
        words = inputs.get("tokens") or [word for word, _, _ in placed_words(inputs)]
        return "\x1f".join(map(normal_text, words))

    def write_row(self, inputs: Inputs, target: Target, names: FieldNames) -> dict[str, Any]:
        """Write words and tags."""
        words = [word for word, _, _ in placed_words(inputs)]
        return {names.tokens: words, names.tags: list(_tags(target))}

    def join(self, inputs: Inputs, answer: object, names: FieldNames) -> dict[str, Any]:
        """Write the words with tags; entities as the server answers them are taken too."""
        tags = answer
        if isinstance(answer, list) and not all(isinstance(tag, str) for tag in answer):
            tags = tags_from_spans(inputs, answer)
        elif isinstance(answer, list) and not answer:
            tags = tags_from_spans(inputs, ())
        words = [word for word, _, _ in placed_words(inputs)]
        return {names.tokens: words, names.tags: tags}

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the entity types."""
        return tuple(dict.fromkeys(tag[2:] for tag in _tags(target) if tag != OUTSIDE))

    def labels_in(self, row: Mapping[str, object], names: FieldNames) -> frozenset[str]:
        """Give the types of the tags as they came."""
        value = row.get(names.tags)
        tags = value if isinstance(value, list) else []
        return frozenset(tag[2:] for tag in tags if isinstance(tag, str))

    def labels_of_key(self, key: str) -> tuple[str, ...]:
        """Give the types that the plus signs part."""
        return () if key == OUTSIDE else super().labels_of_key(key)

    def label_names(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Give the entity types."""
        return self.labels_of(tuple(outputs))

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Give the tags with other types."""
        return tuple(
            tag if tag == OUTSIDE else tag[:2] + names.get(tag[2:], tag[2:])
            for tag in _tags(target)
        )

    def balance_key(self, target: Target) -> str:
        """Balance replay over the set of entity types in a sentence."""
        return self.key_separator.join(sorted(self.labels_of(target))) or OUTSIDE

    def outputs(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
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
        return (HeadSpec(name="logits", outputs=space, view="words"),)

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise words and remember where each begins; what is over the limit is cut.

        A word of which the tokenizer makes no piece stands alone in that: all others keep theirs.
        From the first word on that is over the limit, all are cut; how many pieces the words after
        it would have is not asked.
        """
        unknown = unknown_id(tokenizer)
        batch = [[word for word, _, _ in placed_words(item)] for item in inputs]
        encodings: list[tuple[Encoding, ...]] = []
        for words, item in zip(batch, encode_words(tokenizer, batch, max_tokens), strict=True):
            ids, end = item.ids, len(item.ids)
            truncated = len(ids) > max_tokens
            if truncated:
                # The last id ends the text; it is kept, and no word is looked for in its place.
                ids, end = ids[: max_tokens - 1] + ids[-1:], max_tokens - 1
            starts: dict[int, int] = {}
            for position, word in enumerate(item.word_ids):
                if word is not None:
                    starts.setdefault(word, position)
            cut = len(words)
            if truncated:
                cut = min((word for word, at in starts.items() if at >= end), default=cut)
            read = [word for word in range(cut) if word in starts]
            encodings.append(
                (
                    Encoding(
                        input_ids=tuple(ids),
                        word_starts=tuple(starts[word] for word in read),
                        truncated=truncated,
                        unknown_pieces=ids.count(unknown) if unknown is not None else 0,
                        words=tuple(read),
                        lost_words=tuple(word for word in range(cut) if word not in starts),
                        cut_words=tuple(range(cut, len(words))),
                    ),
                )
            )
        return encodings

    def learn(
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
        calibration: Calibration,
    ) -> Prediction:
        """Give the best valid tags and their spans; words that were not read are outside."""
        import numpy as np

        logits = np.concatenate([np.asarray(o["logits"], dtype=np.float64) for o in outputs])
        logs = log_softmax(logits, calibration.temperature)
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
        return entity_prediction(entities, tags, _unread(encodings, places))

    def key_of(self, target: Target) -> str:
        """Name the entities."""
        return span_key(_tags(target))

    def units(self, target: Target) -> tuple[str, ...]:
        """Take each word's tag."""
        return _tags(target)

    def unit_label(self, unit: str) -> str | None:
        """Give the type of a tag; none of what is outside."""
        return None if unit == OUTSIDE else unit[2:]

    def baseline(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Give every word the commonest tag."""
        counts = Counter(tag for target in targets for tag in _tags(target))
        # Ties go to the first name, so that the same rows give the same answer.
        commonest = min(counts, key=lambda name: (-counts[name], name), default="")
        return tuple((commonest,) * len(_tags(target)) for target in targets)

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

    def shown(self, target: Target, words: Sequence[str] | None = None) -> str:
        """Write the entities, with their words where those are at hand."""
        tags = _tags(target)
        found = spans_of(tags)
        if not found:
            return "no entity"
        if words is None or len(words) != len(tags):
            return ", ".join(kind for kind, _, _ in found)
        return ", ".join(f"{' '.join(words[first:end])} ({kind})" for kind, first, end in found)

    def cells(self, value: Mapping[str, Any]) -> tuple[dict[str, str | float], ...]:
        """Give a row for each entity."""
        return tuple(
            {
                "entity": entity["text"],
                "type": entity["type"],
                "from": entity["start"],
                "to": entity["end"],
                "score": round(entity["score"], 2),
            }
            for entity in value["entities"]
        ) or ({"entity": "–", "type": "", "from": "", "to": "", "score": ""},)

    def schema(self) -> dict[str, Any]:
        """Describe the entities, and what was not read."""
        place = {"start": {"type": "integer"}, "end": {"type": "integer"}}
        entity = {
            "type": "object",
            "required": ["start", "end", "type", "text", "score"],
            "properties": {
                **place,
                "type": {"type": "string"},
                "text": {"type": "string"},
                "score": {"type": "number"},
            },
        }
        unread = {
            "type": "object",
            "required": ["start", "end", "reason"],
            "properties": {**place, "reason": {"enum": ["no-pieces", "cut"]}},
        }
        return {
            "type": "object",
            "required": ["entities"],
            "properties": {
                "entities": {"type": "array", "items": entity},
                "unread": {"type": "array", "items": unread},
            },
        }

    def tensors(self, space: LabelSpace) -> tuple[Output, ...]:
        """Name entities and tags, each as JSON."""
        return (Output("entities", "BYTES"), Output("tags", "BYTES"))

    def tensor_values(self, prediction: Prediction, space: LabelSpace) -> dict[str, Any]:
        """Write them as JSON."""
        return {
            "entities": _json(prediction.value["entities"]),
            "tags": _json(_tags(prediction.target)),
        }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _types(labels: LabelSpace) -> list[str]:
    return list(dict.fromkeys(name[2:] for name in labels.names if name != OUTSIDE))


def _tags(target: Target) -> tuple[str, ...]:
    if not isinstance(target, tuple):
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
