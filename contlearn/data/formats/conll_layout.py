"""Which column of a CoNLL file holds the words, which the tags: told by its first sentences.

There is no one CoNLL form: CoNLL-2003 has word, part of speech, chunk and entity; GermEval has an
index before the word, and two columns of tags; CoNLL-U has ten columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["DOCUMENT", "Layout", "cells_of", "find_layout", "is_extra_index"]

DOCUMENT: Final = "-DOCSTART-"
_TAG: Final = re.compile(r"O|[BIESLU]-\S.*")
# Words of a token that stands in two columns, and words that are not in the text (CoNLL-U).
_EXTRA_INDEX: Final = re.compile(r"\d+[-.]\d+")
# Syntactic chunks, which CoNLL-2000 and CoNLL-2003 tag in the same way as entities.
_CHUNKS: Final = frozenset(
    ("NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP")
)
_CONLL_U: Final = 10
# The share of a column's cells that must be tags.
_MOSTLY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of words and tags, from the left or (negative) from the right.

    `is_indexed` says that the column before the words counts them, `first` from which number in
    each sentence (None where the count goes on through the file); `columns` is how many cells most
    lines have.
    """

    word: int = 0
    tag: int = -1
    is_indexed: bool = False
    first: int | None = None
    columns: int | None = None
    notices: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def cells_of(line: str) -> list[str]:
    r"""Cut a line at tabs, else at blanks; other white space, as a no-break space, is in a word.

    Example:
        >>> cells_of("Rome B-city"), cells_of("1\tNew York\tO")
        (['Rome', 'B-city'], ['1', 'New York', 'O'])
    """
    if "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    return [cell.strip() for cell in line.split(" ") if cell]


def is_extra_index(cell: str) -> bool:
    """Say whether an index cell marks a line that is no word of its own (CoNLL-U: 1-2, 1.1)."""
    return _EXTRA_INDEX.fullmatch(cell) is not None


def find_layout(
    lines: Iterable[str],
    named: Sequence[str] = (),
    words: str = "",
    tags: str = "",
) -> Layout:
    """Find the layout of a file by its first lines.

    Args:
        lines: The first lines, as text.
        named: The names of the columns, where the configuration gives them.
        words: The name of the column of words among them.
        tags: The name of the column of tags.
    """
    if words in named and tags in named:
        return Layout(word=named.index(words), tag=named.index(tags), columns=len(named))
    sentences = _sentences(lines)
    if not sentences:
        return Layout()
    is_indexed, first = _index(sentences)
    word = int(is_indexed)
    notices: tuple[tuple[str, str], ...] = ()
    if is_indexed:
        start = "on through the file" if first is None else f"from {first} in each sentence"
        said = f"Column 1 counts the words ({start}); they are taken from column 2."
        notices = (("conll-columns", said),)
    widths = Counter(len(cells) for sentence in sentences for cells in sentence)
    columns = max(widths, key=lambda width: (widths[width], width))
    rows = [cells for sentence in sentences for cells in sentence if len(cells) == columns]
    found = [place for place in range(word + 1, columns) if _is_of_tags(rows, place)]
    if not found:
        problem = ""
        if columns == _CONLL_U and is_indexed:
            problem = "The file is CoNLL-U: none of its ten columns holds BIO tags of entities."
        return Layout(word, -1, is_indexed, first, columns, notices, problem)
    entities = [place for place in found if not _types(rows, place) & _CHUNKS] or found
    tag = entities[0] if is_indexed else entities[-1]
    if len(entities) > 1 or tag != columns - 1:
        others = [str(place + 1) for place in entities if place != tag]
        said = f"The tags are taken from column {tag + 1} of {columns}"
        said += f"; column {', '.join(others)} holds tags too." if others else "."
        notices += (("conll-columns", said),)
    return Layout(word, -1 if tag == columns - 1 else tag, is_indexed, first, columns, notices)


def _is_of_tags(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Say whether a column holds tags, but for a few that are mistakes."""
    fit = sum(_TAG.fullmatch(cells[place]) is not None for cells in rows)
    return fit >= _MOSTLY * len(rows)


def _sentences(lines: Iterable[str]) -> list[list[list[str]]]:
    """Cut lines into sentences of cells; comments and document marks are left out."""
    sentences: list[list[list[str]]] = [[]]
    for line in lines:
        cells = cells_of(line.rstrip().removeprefix("\ufeff"))
        if not cells or cells == [""] or DOCUMENT in cells[:2]:
            sentences.append([])
        elif line.startswith("#") and (not sentences[-1] or not _TAG.fullmatch(cells[-1])):
            # A comment, or a word that begins so: there are others to go by.
            continue
        else:
            sentences[-1].append(cells)
    return [sentence for sentence in sentences if sentence]


def _index(sentences: Sequence[Sequence[Sequence[str]]]) -> tuple[bool, int | None]:
    """Say whether the first column counts words, and from what, in most of the sentences."""
    starts = [_start(sentence) for sentence in sentences]
    counted = [start for start in starts if start is not None]
    if 2 * len(counted) <= len(starts):
        return False, None
    commonest, times = Counter(counted).most_common(1)[0]
    if commonest in (0, 1) and 2 * times > len(starts):
        return True, commonest
    return counted == sorted(counted) and counted[0] in (0, 1), None


def _start(sentence: Sequence[Sequence[str]]) -> int | None:
    """Give the number from which the first column of a sentence counts; None if it does not."""
    start = expected = None
    for cells in sentence:
        if len(cells) < 3:
            return None
        if is_extra_index(cells[0]):
            continue
        number = int(cells[0]) if cells[0].isdecimal() and len(cells[0]) < 10 else None
        if number is None or number != (number if expected is None else expected):
            return None
        start = number if start is None else start
        expected = number + 1
    return start


def _types(rows: Sequence[Sequence[str]], place: int) -> set[str]:
    return {cells[place][2:] for cells in rows if cells[place] != "O"}
