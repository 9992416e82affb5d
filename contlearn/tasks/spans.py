"""Words, tags and spans of entities: where words stand, and how tags become spans and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from contlearn.interfaces import RowProblem
from contlearn.tasks.marks import words_with_marks
from contlearn.types import Inputs

__all__ = [
    "OUTSIDE",
    "placed_words",
    "span_key",
    "spans_of",
    "split_words",
    "tags_from_spans",
    "tags_on_words",
]

OUTSIDE: Final = "O"
_WORD: Final = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_SHOWN: Final = 60


def split_words(text: str) -> list[tuple[int, int]]:
    """Find the words of a bare text: runs of letters and digits, and single other signs.

    Marks, selectors and zero-width characters belong to their word: a letter and its accent are
    one, however the text writes them.

    Returns:
        The character positions of each word, the end exclusive.
    Example:
        >>> split_words("to Rome, now")
        [(0, 2), (3, 7), (7, 8), (9, 12)]
        >>> split_words("cafe\u0301 \u2764\ufe0f")
        [(0, 5), (6, 8)]
    """
    pattern = _WORD if text.isascii() else words_with_marks("'’")
    return [match.span() for match in pattern.finditer(text)]


def placed_words(inputs: Inputs) -> list[tuple[str, int, int]]:
    """Give each word with its character positions in the text that is shown."""
    if "text" in inputs:
        text = str(inputs["text"])
        return [(text[a:b], a, b) for a, b in split_words(text)]
    places, position = [], 0
    for word in inputs["tokens"]:
        places.append((word, position, position + len(word)))
        position += len(word) + 1
    return places


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Give the (type, first word, end word) of each entity, the end exclusive.

    An I- that follows no entity of its type begins one, as in the CoNLL evaluation.

    Source: seqeval (get_entities); the tests hold this function against it.
    Example:
        >>> spans_of(["B-city", "I-city", "O", "I-day"])
        [('city', 0, 2), ('day', 3, 4)]
    """
    spans: list[tuple[str, int, int]] = []
    open_type, begin = None, 0
    for place, tag in enumerate((*tags, OUTSIDE)):
        kind = None if tag == OUTSIDE else tag[2:]
        if open_type is not None and (tag[0] == "B" or kind != open_type):
            spans.append((open_type, begin, place))
            open_type = None
        if kind is not None and open_type is None:
            open_type, begin = kind, place
    return spans


def span_key(tags: Sequence[str]) -> str:
    """Name the entities of a text in few characters: equal keys are equal entities.

    Places and types go in, words do not, so that the log may hold it.

    Example:
        >>> span_key(["O", "B-city"]) == span_key(["O", "I-city"])
        True
    """
    spans = ";".join(f"{first}-{end}:{kind}" for kind, first, end in spans_of(tags))
    return hashlib.sha256(spans.encode("utf-8", "replace")).hexdigest()[:16]


def tags_from_spans(inputs: Inputs, spans: Sequence[object]) -> list[str]:
    """Turn entities as the server answers them (`start`, `end`, `type`) into a tag for each word.

    Args:
        inputs: The text or the words that the entities stand in.
        spans: Of any order; further fields are passed over.
    Raises:
        RowProblem: When one is no such object, does not begin and end with a word, or overlaps.
    Example:
        >>> tags_from_spans({"text": "to New York"}, [{"start": 3, "end": 11, "type": "city"}])
        ['O', 'B-city', 'I-city']
    """
    return tags_on_words(placed_words(inputs), spans)


def tags_on_words(words: Sequence[tuple[str, int, int]], spans: Sequence[object]) -> list[str]:
    """Turn entities into a tag for each word, as `tags_from_spans` does, where the words are given.

    Raises:
        RowProblem: When an entity is no such object, fits no words, or overlaps.
    """
    begins = {start: place for place, (_, start, _) in enumerate(words)}
    ends = {end: place for place, (_, _, end) in enumerate(words)}
    tags = [OUTSIDE] * len(words)
    for number, span in enumerate(spans, start=1):
        start, end, kind = _span(span, number)
        first, last = begins.get(start), ends.get(end)
        if first is None or last is None or last < first:
            raise RowProblem(
                "bad-span",
                f"Entity {number}, from {start} to {end}, does not begin and end with a word.",
                "Count characters from 0, the end exclusive, as the answers do.",
            )
        if any(tag != OUTSIDE for tag in tags[first : last + 1]):
            raise RowProblem(
                "bad-span",
                f"Entity {number}, from {start} to {end}, overlaps another.",
                "Give each word one entity at most.",
            )
        tags[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    return tags


def _span(span: object, number: int) -> tuple[int, int, str]:
    if isinstance(span, Mapping):
        start, end, kind = span.get("start"), span.get("end"), span.get("type")
        if (
            isinstance(start, int)
            and isinstance(end, int)
            and isinstance(kind, str)
            and kind.strip()
        ):
            return start, end, kind
    raise RowProblem(
        "bad-span",
        f"Entity {number} is {repr(span)[:_SHOWN]}, not an object with start, end and type.",
        'For example {"start": 7, "end": 11, "type": "city"}.',
    )
