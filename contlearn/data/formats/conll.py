"""CoNLL columns: a word and its tag a line, an empty line between sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.formats.conll_layout import (
    DOCUMENT,
    Layout,
    cells_of,
    find_layout,
    is_extra_index,
)
from contlearn.data.formats.encodings import INNER_MARK
from contlearn.data.formats.streams import ROW_BYTES, TextFile, iter_lines, open_text, refuse_file
from contlearn.interfaces import ParsedRow, RowProblem

__all__ = ["ConllColumns", "from_bioes"]

# The last column of a line of words: a tag.
_TAG: Final = re.compile(r"\s(O|[A-Z]-\S+)$")
# How far is looked for the layout.
_SAMPLE_LINES: Final = 2_000
_SAMPLE_BYTES: Final = 1 << 18


def from_bioes(tag: str) -> str:
    """Write a BIOES (or BILOU) tag as BIO; other tags stay as they are.

    Example:
        >>> [from_bioes(t) for t in ("S-person", "B-place", "I-place", "E-place", "O")]
        ['B-person', 'B-place', 'I-place', 'I-place', 'O']
    """
    if tag[1:2] == "-":
        if tag[0] in "SU":
            return "B" + tag[1:]
        if tag[0] in "EL":
            return "I" + tag[1:]
    return tag


class ConllColumns:
    """Words in the first column, or behind an index, tags in the last that holds some.

    Args:
        columns: The names of the columns, where the configuration gives them; they decide if the
            names of words and tags are among them.
    """

    name: ClassVar[str] = "conll"
    summary: ClassVar[str] = "CoNLL columns: word first (or behind an index), BIO or BIOES tag last"
    suffixes: ClassVar[tuple[str, ...]] = (".conll", ".bio", ".iob", ".iob2", ".bioes")

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self._columns = tuple(columns)

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ("tokens", "tags")
    ) -> Iterator[ParsedRow]:
        """Yield a row a sentence, numbered by the line it begins on."""
        # The task reads the words first and the tags second, whatever their configured names.
        words_name, tags_name = needed if len(needed) == 2 else ("tokens", "tags")
        with open_text(path, limits) as text:
            lines = iter_lines(text.read, limits.line_bytes)
            ahead = _look_ahead(lines)
            layout = find_layout(_whole_sentences(ahead), self._columns, words_name, tags_name)
            if layout.problem:
                raise refuse_file(
                    "bad-columns",
                    layout.problem,
                    "Give a file with a column of BIO tags, or name the columns in data.columns.",
                )
            sentence = _Sentence(words_name, tags_name, limits, text, layout)
            for number, data, too_long in itertools.chain(ahead, lines):
                try:
                    line = data.decode("utf-8").rstrip()
                except UnicodeDecodeError as error:
                    line = data.decode("utf-8", errors="surrogateescape").rstrip()
                    if not too_long:
                        sentence.refuse_bytes(number, data, error)
                if line.startswith("\ufeff"):
                    line = line.removeprefix("\ufeff")
                    sentence.note(INNER_MARK)
                if not line.strip() or DOCUMENT in line.split(None, 2)[:2]:
                    yield from sentence.close()
                else:
                    sentence.take(number, line, too_long=too_long)
            yield from sentence.close()


def _look_ahead(lines: Iterator[tuple[int, bytes, bool]]) -> list[tuple[int, bytes, bool]]:
    """Take the first lines of a file."""
    taken, size = [], 0
    for item in lines:
        taken.append(item)
        size += len(item[1])
        if len(taken) >= _SAMPLE_LINES or size >= _SAMPLE_BYTES:
            break
    return taken


def _whole_sentences(ahead: Sequence[tuple[int, bytes, bool]]) -> list[str]:
    """Give the lines as text, without the sentence that the look ahead has cut."""
    lines = [data.decode("utf-8", errors="replace") for _, data, _ in ahead]
    if len(lines) >= _SAMPLE_LINES:
        ends = [place for place, line in enumerate(lines) if not line.strip()]
        return lines[: ends[-1]] if ends else lines
    return lines


class _Sentence:
    """The sentence that is being read; bounded like a line."""

    def __init__(
        self,
        words_name: str,
        tags_name: str,
        limits: LimitsConfig,
        text: TextFile,
        layout: Layout,
    ) -> None:
        self._names = (words_name, tags_name)
        self._limits, self._guess = limits, text.guess
        self._layout, self._notices = layout, text.notices + layout.notices
        self._count = 0
        self._converted = False
        self._index = 0
        self._reset()

    def _reset(self) -> None:
        self._words: list[str] = []
        self._tags: list[str] = []
        self._begin = self._bytes = 0
        self._raw: list[str] = []
        self._problem: RowProblem | None = None

    def note(self, notice: tuple[str, str]) -> None:
        """Say something of the file with the next sentence."""
        if notice not in self._notices:
            self._notices += (notice,)

    def refuse_bytes(self, number: int, data: bytes, error: UnicodeDecodeError) -> None:
        """Note that a line is not UTF-8."""
        self._problem = self._problem or RowProblem(
            "bad-encoding",
            f"The byte 0x{data[error.start]:02X} on line {number} is not UTF-8.",
            self._guess.hint(data),
        )

    def take(self, number: int, line: str, *, too_long: bool) -> None:
        """Add a line; a comment before a sentence is none of it."""
        if not self._begin and line.startswith("#") and self._is_comment(line):
            return
        self._begin = self._begin or number
        self._bytes += len(line)
        if self._bytes <= ROW_BYTES:
            self._raw.append(line)
        if too_long or self._bytes > self._limits.line_bytes:
            self._words.clear()
            self._tags.clear()
            self._problem = self._problem or RowProblem(
                "too-long",
                f"Sentence {self._count + 1} is longer than {self._limits.line_bytes:,} bytes.",
                "Put an empty line after each sentence.",
            )
            return
        layout = self._layout
        cells = cells_of(line)
        if layout.is_indexed and is_extra_index(cells[0]):
            return
        word, tag = layout.word, layout.tag
        is_fit = len(cells) >= word + 2 and (tag < 0 or len(cells) == layout.columns)
        if not is_fit or not cells[word] or not cells[tag]:
            self._problem = self._problem or RowProblem(
                "bad-columns",
                f"Line {number} (sentence {self._count + 1}) lacks a word or a tag.",
                "Write at least two columns: the word first, its tag last."
                if layout == Layout(columns=layout.columns)
                else f"Give each line the {layout.columns} columns that the others have.",
            )
            return
        if layout.is_indexed and not self._is_next(cells[0]):
            self._problem = self._problem or RowProblem(
                "bad-columns",
                f"Line {number} (sentence {self._count + 1}) begins with {cells[0][:40]!r}; "
                "elsewhere the first column counts the words.",
                "Number the words of each sentence alike throughout the file, or leave the "
                "numbers out.",
            )
            return
        self._words.append(cells[word])
        self._tags.append(cells[tag])

    def _is_next(self, cell: str) -> bool:
        """Say whether an index goes on from the line before."""
        if not self._words:
            first = self._layout.first
            self._index = int(cell) if cell.isdecimal() and len(cell) < 10 else -1
            return self._index >= 0 if first is None else self._index == first
        return cell == str(self._index + len(self._words))

    def _is_comment(self, line: str) -> bool:
        """Say whether a line that begins with # is no word: by its columns, or without a tag."""
        if self._layout.is_indexed or not _TAG.search(line):
            return True
        columns = self._layout.columns
        return columns is not None and len(cells_of(line)) != columns

    def close(self) -> Iterator[ParsedRow]:
        """Give the sentence, if there is one, and begin the next."""
        if not self._begin:
            return
        self._count += 1
        raw = "\n".join(self._raw)[:ROW_BYTES]
        raw = raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if self._problem is not None:
            yield ParsedRow(self._begin, problem=self._problem, raw=raw)
        else:
            tags = [from_bioes(tag) for tag in self._tags]
            warnings, self._notices = self._notices, ()
            if tags != self._tags and not self._converted:
                self._converted = True
                warnings += (("bioes", "The tags are BIOES; they are kept as BIO."),)
            row = {self._names[0]: self._words, self._names[1]: tags}
            yield ParsedRow(self._begin, row, warnings=warnings, raw=raw)
        self._reset()
