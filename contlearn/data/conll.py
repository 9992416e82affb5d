"""CoNLL columns: a word and its tag a line, an empty line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from contlearn.config import LimitsConfig
from contlearn.data.encodings import INNER_MARK
from contlearn.data.streams import ROW_BYTES, TextFile, iter_lines, open_text
from contlearn.interfaces import ParsedRow, RowProblem

__all__ = ["ConllColumns", "from_bioes"]

_DOCUMENT: Final = "-DOCSTART-"
# The last column of a line of words: a tag.
_TAG: Final = re.compile(r"\s(O|[A-Z]-\S+)$")


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
    """Words in the first column, tags in the last; blanks or tabs between them."""

    name: ClassVar[str] = "conll"
    summary: ClassVar[str] = "CoNLL columns: word first, BIO or BIOES tag last"
    suffixes: ClassVar[tuple[str, ...]] = (".conll", ".bio", ".iob", ".iob2", ".bioes")

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ("tokens", "tags")
    ) -> Iterator[ParsedRow]:
        """Yield a row a sentence, numbered by the line it begins on."""
        # The task reads the words first and the tags second, whatever their configured names.
        words_name, tags_name = needed if len(needed) == 2 else ("tokens", "tags")
        with open_text(path, limits) as text:
            sentence = _Sentence(words_name, tags_name, limits, text)
            for number, data, too_long in iter_lines(text.read, limits.line_bytes):
                try:
                    line = data.decode("utf-8").rstrip()
                except UnicodeDecodeError as error:
                    line = data.decode("utf-8", errors="surrogateescape").rstrip()
                    if not too_long:
                        sentence.refuse_bytes(number, data, error)
                if line.startswith("\ufeff"):
                    line = line.removeprefix("\ufeff")
                    sentence.note(INNER_MARK)
                if not line.strip() or line.split(None, 1)[0] == _DOCUMENT:
                    yield from sentence.close()
                else:
                    sentence.take(number, line, too_long=too_long)
            yield from sentence.close()


class _Sentence:
    """The sentence that is being read; bounded like a line."""

    def __init__(
        self,
        words_name: str,
        tags_name: str,
        limits: LimitsConfig,
        text: TextFile,
    ) -> None:
        self._names = (words_name, tags_name)
        self._limits, self._notices, self._guess = limits, text.notices, text.guess
        self._count = 0
        self._converted = False
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
        if not self._begin and line.startswith("#") and not _TAG.search(line):
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
        # Other white space, such as a no-break space, is part of a word.
        cells = line.split("\t") if "\t" in line else line.split(" ")
        if "\t" not in line:
            cells = [cell for cell in cells if cell]
        cells = [cell.strip() for cell in cells]
        if len(cells) < 2 or not cells[0] or not cells[-1]:
            self._problem = self._problem or RowProblem(
                "bad-columns",
                f"Line {number} (sentence {self._count + 1}) lacks a word or a tag.",
                "Write at least two columns: the word first, its tag last.",
            )
            return
        self._words.append(cells[0])
        self._tags.append(cells[-1])

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
