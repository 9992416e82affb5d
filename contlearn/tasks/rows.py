"""Checks of a row's fields that every task shares, and the normal forms of texts and labels."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence

from contlearn.interfaces import RowProblem
from contlearn.tasks.others import foreign_label, type_name
from contlearn.types import label_name

__all__ = [
    "clean_label",
    "clean_text",
    "clean_words",
    "control_characters",
    "label_skeleton",
    "near_label",
    "need_field",
    "normal_text",
    "type_name",
]

MAX_LABEL_CHARACTERS = 200
_MAX_SHOWN_FIELDS = 32

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# White space and signs that leave no mark: what a text of nothing else is empty of.
_INVISIBLE = "".join(
    chr(code)
    for first, last in (
        (0x09, 0x0D),
        (0x1C, 0x20),
        (0x85, 0x85),
        (0xA0, 0xA0),
        (0xAD, 0xAD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x1680, 0x1680),
        (0x180B, 0x180E),
        (0x2000, 0x200F),
        (0x2028, 0x202F),
        (0x205F, 0x206F),
        (0x2800, 0x2800),
        (0x3000, 0x3000),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
    )
    for code in range(first, last + 1)
)


def need_field(row: Mapping[str, object], name: str) -> object:
    """Take a field that must be there and must not be null."""
    value = row.get(name)
    if value is None:
        keys = tuple(map(str, itertools.islice(row, _MAX_SHOWN_FIELDS)))
        raise RowProblem("missing-field", *_missing(name, keys, is_null=name in row))
    return value


@functools.lru_cache(maxsize=512)
def _missing(name: str, keys: tuple[str, ...], *, is_null: bool) -> tuple[str, str]:
    """Say that a field is missing; rows of one file mostly lack the same."""
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    there = f" The row has: {', '.join(repr(key[:60]) for key in keys[:8])}." if keys else ""
    return (
        f"The field {name!r} is {'null' if is_null else 'missing'}.{there}",
        (f"Did you mean {near[0]!r}? " if near and near[0] != name else "")
        + f"Name the field {name!r}, or set its name under [data] in contlearn.toml.",
    )


def clean_text(value: object, name: str) -> str:
    """Check a text and give it as it came; `normal_text` is what duplicates go by.

    Raises:
        RowProblem: wrong-type, control-char, bad-encoding or empty-text.
    """
    if not isinstance(value, str):
        raise RowProblem(
            "wrong-type",
            f"The field {name!r} is a {type_name(value)}, not text.",
            "Write it as a JSON string.",
        )
    if "\0" in value:
        raise RowProblem(
            "control-char",
            f"The field {name!r} holds a NUL character.",
            "Remove it; NUL bytes are not part of a text.",
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _not_utf8(name, ord(value[error.start])) from None
    if not value.strip(_INVISIBLE):
        raise RowProblem(
            "empty-text", f"The field {name!r} is empty.", "Leave rows without text out."
        )
    return value


def clean_words(value: object, name: str) -> tuple[str, ...]:
    """Check a list of words and give them as they came.

    Raises:
        RowProblem: wrong-type or empty-text, or what `clean_text` finds in a word.
    """
    if not isinstance(value, list | tuple):
        raise RowProblem(
            "wrong-type",
            f"The field {name!r} is a {type_name(value)}, not a list.",
            "Give the words as a list of texts.",
        )
    if not value:
        raise RowProblem("empty-text", f"The field {name!r} is empty.", "Leave the row out.")
    return tuple(clean_text(word, name) for word in value)


def control_characters(text: str) -> str:
    r"""Give the control characters of a text, other than line ends and tabs.

    Example:
        >>> control_characters("back\bspace")
        '\x08'
    """
    return "" if text.isprintable() else "".join(_CONTROL.findall(text))


def normal_text(text: str) -> str:
    r"""Give the form that duplicates go by: NFC, runs of white space as one blank, ends trimmed.

    Example:
        >>> normal_text(" cafe\u0301  au\tlait ")
        'café au lait'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def clean_label(value: object, name: str, task: str) -> str:
    """Check a label, and give it as labels are kept: composed, without blanks around.

    Args:
        value: The label as it came.
        name: Its field.
        task: What wants it, for the answer to rows of another task.
    """
    if not isinstance(value, str):
        raise foreign_label(value, name, task) or RowProblem(
            "wrong-type",
            f"The label in {name!r} is a {type_name(value)}, not text.",
            "Write labels as text, one label a row.",
        )
    return _checked_label(value, name)


@functools.lru_cache(maxsize=8192)
def _checked_label(value: str, name: str) -> str:
    if not value.strip(_INVISIBLE):
        raise RowProblem("unknown-label", f"The label in {name!r} is empty.", "Give it a label.")
    value = label_name(value)
    if len(value) > MAX_LABEL_CHARACTERS:
        raise RowProblem(
            "too-long",
            f"The label in {name!r} has {len(value)} characters.",
            f"Use a short name, at most {MAX_LABEL_CHARACTERS} characters.",
        )
    found = _CONTROL.search(value)
    if found is not None:
        raise RowProblem(
            "unknown-label",
            f"The label {value!r} holds the control character U+{ord(found[0]):04X}.",
            "Remove it from the label.",
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _not_utf8(name, ord(value[error.start])) from None
    return value


def _not_utf8(name: str, code: int) -> RowProblem:
    if 0xDC80 <= code <= 0xDCFF:
        # A byte that a reader of text columns could not decode (PEP 383).
        return RowProblem(
            "bad-encoding",
            f"The field {name!r} holds the byte 0x{code - 0xDC00:02X}, which is not UTF-8 there.",
            "Convert the file to UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW",
        )
    return RowProblem(
        "bad-encoding",
        f"The field {name!r} holds half of a surrogate pair, U+{code:04X}.",
        "Write characters beyond U+FFFF as UTF-8 or as a whole \\u pair.",
    )


@functools.lru_cache(maxsize=65_536)
def label_skeleton(label: str) -> str:
    """Give what a label looks like: equal for labels that a reader would take for one.

    Example:
        >>> label_skeleton(" Spam\u200b") == label_skeleton("spam")
        True
    """
    folded = unicodedata.normalize("NFKC", label).casefold().translate(_LOOK_ALIKE)
    visible = "".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join(visible.split())


# Letters of other scripts that look like Latin ones; after Unicode's confusables, the common part.
_LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04cf\u04bb\u0432\u043a\u043c\u043d\u0442"
    "\u03b1\u03bf\u03bd\u03c1\u03b9\u03ba\u03c5\u03c7",
    "aeopcyxijsdlhbkmht" + "aovpikux",
)


def near_label(label: str, known: Sequence[str]) -> str | None:
    """Give the known label that was probably meant."""
    looks = {label_skeleton(name): name for name in known}
    if (look := label_skeleton(label)) in looks:
        return looks[look]
    near = difflib.get_close_matches(label, known, n=1, cutoff=0.75)
    return near[0] if near else None
