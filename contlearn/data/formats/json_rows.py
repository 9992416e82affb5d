"""JSON lines and JSON arrays: orjson for what is right, a careful second look at what is not."""

from __future__ import annotations

import codecs
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, NoReturn

import orjson

from contlearn.config import LimitsConfig
from contlearn.data.formats.encodings import INNER_MARK, EncodingGuess
from contlearn.data.formats.streams import (
    ROW_BYTES,
    TextFile,
    iter_lines,
    open_text,
    refuse_file,
)
from contlearn.interfaces import ParsedRow, RowProblem
from contlearn.tasks.others import type_name
from contlearn.wording import quoted

__all__ = ["JsonArray", "JsonLines", "parse_object"]

_CHUNK: Final = 1 << 18
# What may stand before a row: the mark of a file put behind another, and the sign that begins a row
# of a JSON text sequence (RFC 7464).
_BEFORE_ROW: Final = (codecs.BOM_UTF8, b"\x1e")
# What opens, closes or quotes; an escaped character is one match, so that \" ends no string.
_STRUCTURE: Final = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)
_ELEMENTS: Final = re.compile(rb'\\.|["\[\]{},]', re.DOTALL)
_ARRAY_OF_OBJECTS: Final = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
# A number with more digits than this is beyond any float.
_MAX_DIGITS: Final = 400


def parse_object(
    line: bytes, limits: LimitsConfig, guess: EncodingGuess | None = None
) -> Mapping[str, object]:
    """Read one JSON object strictly.

    Args:
        line: Its bytes.
        limits: The bounds.
        guess: Says what encoding the file is in where it is not UTF-8.
    Raises:
        RowProblem: not-json, not-object, bad-encoding, too-deep, duplicate-key or non-finite.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = _second_look(line, limits, guess or EncodingGuess())
        if type(value) is dict:
            return value
    else:
        # Each key has its colon: as many colons as keys means that no key stands twice and that
        # nothing is nested.
        if type(value) is dict:
            if line.count(b":") != len(value) or line.count(b"[") > limits.nesting:
                _check_structure(line, limits)
            return value
    raise RowProblem(
        "not-object",
        f"The row is a JSON {type_name(value)}, not an object.",
        'Write one object a line, such as {"text": "…", "label": "…"}.',
    )


def _check_structure(line: bytes, limits: LimitsConfig) -> None:
    """Look for keys that stand twice and for depth in a line that orjson could read."""
    deepest, _, _ = _depth(line)
    if deepest > limits.nesting:
        raise _too_deep(deepest, limits)
    _STRICT.decode(line.decode("utf-8"))


def _second_look(line: bytes, limits: LimitsConfig, guess: EncodingGuess) -> object:
    """Find out what is wrong with a line that orjson refuses; give the value if nothing is."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowProblem(
            "bad-encoding",
            f"The byte 0x{line[error.start]:02X} at position {error.start + 1} is not UTF-8.",
            guess.hint(line),
        ) from None
    deepest, depth, in_string = _depth(line)
    if deepest > limits.nesting:
        if depth == 0 and not in_string:
            raise _too_deep(deepest, limits)
        raise RowProblem(
            "not-json", f"{depth} brackets are never closed.", "Write one JSON object a line."
        )
    try:
        value: object = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise RowProblem(
            "not-json",
            f"Not JSON at character {error.pos + 1}: {error.msg}.",
            _json_hint(text, error, depth, in_string=in_string),
        ) from None
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem(
            "bad-encoding",
            f"The row holds half of a surrogate pair, U+{ord(error.object[error.start]):04X}.",
            "Write characters beyond U+FFFF as UTF-8 or as a whole \\u pair.",
        ) from None
    return value


def _too_deep(depth: int, limits: LimitsConfig) -> RowProblem:
    return RowProblem(
        "too-deep",
        f"Values are nested {depth} deep; the limit is {limits.nesting}.",
        "Flatten the row, or raise data.limits.nesting in contlearn.toml.",
    )


def _json_hint(text: str, error: json.JSONDecodeError, depth: int, *, in_string: bool) -> str:
    rest = text[error.pos :].lstrip()
    if in_string or depth > 0:
        return "The line seems to be cut; write the whole object on one line."
    if error.msg == "Extra data":
        if rest.startswith("{"):
            return "Write each object on a line of its own."
        return "Take away what follows the object, for example a comma."
    if error.msg.startswith("Invalid control character"):
        return r"Write a tab as \t, a line end as \n; other control characters are left out."
    if error.msg.startswith("Invalid \\"):
        return r"Write a backslash twice: \\."
    if "'" in text[max(0, error.pos - 1) : error.pos + 1]:
        return "JSON wants double quotes."
    if rest.startswith(("}", "]")) or "trailing comma" in error.msg:
        return "Take the last comma away."
    return "Write one JSON object a line."


def _depth(line: bytes) -> tuple[int, int, bool]:
    """Give the deepest nesting, the nesting at the end, and whether a string is open there."""
    deepest = depth = 0
    in_string = False
    for match in _STRUCTURE.finditer(line):
        token = match[0]
        if token == b'"':
            in_string = not in_string
        elif in_string or len(token) > 1:
            continue
        elif token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest, depth, in_string


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RowProblem(
                    "duplicate-key",
                    f"The key {quoted(key, 60)} stands twice in one object.",
                    "Keep one of the two values.",
                )
            seen.add(key)
    return found


def _non_finite(text: str) -> NoReturn:
    raise RowProblem(
        "non-finite",
        f"The row holds the number {text[:20]}, which is not finite.",
        "Write a finite number, or null.",
    )


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _non_finite(text)
    return value


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise RowProblem(
            "non-finite",
            f"The row holds a whole number of {len(text)} digits, beyond any finite float.",
            "Write it as text, or leave it out.",
        )
    return int(text)


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_non_finite, parse_float=_float, parse_int=_int
)


class JsonLines:
    """One JSON object a line; a file that is one array is read as that, with a notice."""

    name: ClassVar[str] = "jsonl"
    summary: ClassVar[str] = "JSON lines (NDJSON): one object a line"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def rows(
        self, path: Path, limits: LimitsConfig, needed: Sequence[str] = ()
    ) -> Iterator[ParsedRow]:
        """Yield a row a line, numbered by line."""
        with open_text(path, limits) as text:
            first = text.read(_CHUNK)
            again = itertools.chain([first], iter(lambda: text.read(_CHUNK), b""))
            if _ARRAY_OF_OBJECTS.match(first):
                yield from _array_rows(again, limits, text)
            else:
                yield from _line_rows(lambda _: next(again, b""), limits, text)


class JsonArray(JsonLines):
    """A .json file: one array of objects, or JSON lines all the same."""

    name: ClassVar[str] = "json"
    summary: ClassVar[str] = "JSON: one array of objects"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)


def _line_rows(
    read: Callable[[int], bytes], limits: LimitsConfig, text: TextFile
) -> Iterator[ParsedRow]:
    notices = text.notices
    lines = iter_lines(read, limits.line_bytes)
    waiting: list[tuple[int, bytes, bool]] = []
    for item in lines:
        if item[2] or item[1].strip():
            waiting = _refuse_spread_objects(item, lines, limits)
            break
    for number, line, too_long in itertools.chain(waiting, lines):
        if too_long:
            yield _too_long(number, line, limits)
            continue
        if line.startswith(_BEFORE_ROW):
            if line.startswith(codecs.BOM_UTF8) and INNER_MARK not in notices:
                notices += (INNER_MARK,)
            line = line.removeprefix(codecs.BOM_UTF8).removeprefix(b"\x1e")
        try:
            row = parse_object(line, limits, text.guess)
        except RowProblem as problem:
            if line.strip():
                yield ParsedRow(number, problem=problem, raw=_shown(line))
        else:
            yield ParsedRow(number, row, None, "", notices) if notices else ParsedRow(number, row)
            notices = ()


def _refuse_spread_objects(
    first: tuple[int, bytes, bool],
    lines: Iterator[tuple[int, bytes, bool]],
    limits: LimitsConfig,
) -> list[tuple[int, bytes, bool]]:
    """Refuse a file that begins with an object spread over several lines.

    Returns:
        The lines that were read to find out.
    """
    number, line, too_long = first
    taken = [first]
    _, depth, in_string = _depth(line)
    if too_long or in_string or depth != 1 or not line.lstrip().startswith(b"{"):
        return taken
    whole = line
    for item in lines:
        taken.append(item)
        whole += b"\n" + item[1]
        _, depth, in_string = _depth(whole)
        if item[2] or in_string or len(whole) > limits.line_bytes or len(taken) > 1000:
            return taken
        if depth <= 0:
            break
    try:
        row = parse_object(whole, limits)
    except RowProblem:
        return taken
    inside = [name for name, value in row.items() if isinstance(value, list)]
    raise refuse_file(
        "not-json",
        f"Objects are spread over several lines (the first over lines {number} to {taken[-1][0]}).",
        "Write one object a line, for example: jq -c "
        + (shlex.quote(f".[{json.dumps(inside[0])}][]") if len(inside) == 1 else ".")
        + " OLD > NEW",
    )


def _too_long(number: int, head: bytes, limits: LimitsConfig) -> ParsedRow:
    problem = RowProblem(
        "too-long",
        f"The row is longer than {limits.line_bytes:,} bytes.",
        "Shorten it, or raise data.limits.line_bytes in contlearn.toml.",
    )
    return ParsedRow(number, problem=problem, raw=_shown(head))


def _shown(line: bytes) -> str:
    return line[:ROW_BYTES].decode("utf-8", errors="backslashreplace").rstrip("\r")


def _array_rows(
    chunks: Iterator[bytes], limits: LimitsConfig, text: TextFile
) -> Iterator[ParsedRow]:
    notices = (
        *text.notices,
        ("json-array", "The file is one JSON array; rows are numbered by their place."),
    )
    for number, element, too_long in _array_elements(chunks, limits.line_bytes):
        if too_long:
            yield _too_long(number, element, limits)
            continue
        try:
            row = parse_object(element, limits, text.guess)
        except RowProblem as problem:
            if problem.reason == "not-json":
                raise _broken_array(f"Element {number}: {problem.message}") from None
            yield ParsedRow(number, problem=problem, raw=_shown(element))
        else:
            yield ParsedRow(number, row, warnings=notices)
            notices = ()


def _broken_array(what: str) -> Exception:
    return refuse_file(
        "not-json",
        f"The file begins as a JSON array, but is none. {what}",
        "Correct it, or write one object a line.",
    )


def _array_elements(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes, bool]]:
    """Cut an array into its elements without holding more than one of them.

    Yields:
        The element's number from 1, its bytes, and whether it was longer than the limit.
    """
    buffer, start, scanned = b"", 0, 0
    number = depth = 0
    in_string = too_long = ended = False
    head = b""
    for chunk in chunks:
        buffer, start, scanned = buffer[start:] + chunk, 0, scanned - start
        for match in _ELEMENTS.finditer(buffer, scanned):
            token = match[0]
            if ended:
                break
            if token == b'"':
                in_string = not in_string
            elif in_string or len(token) > 1:
                continue
            elif token in b"[{":
                depth += 1
                if depth == 1:
                    start = match.end()
            elif token in b"]}":
                depth -= 1
            if not in_string and (depth == 0 or (depth == 1 and token == b",")):
                element = buffer[start : match.start()].strip()
                ended, start = depth == 0, match.end()
                if ended and token != b"]":
                    raise _broken_array("It is closed by a brace.")
                if element or too_long:
                    number += 1
                    yield number, head or element, too_long or len(element) > limit
                elif number or not ended:
                    raise _broken_array(
                        f"There is no element before the comma or bracket after element {number}."
                    )
                too_long, head = False, b""
        if ended and buffer[start:].strip():
            raise _broken_array("Something follows its end.")
        # A lone backslash at the end belongs to the next chunk's first character.
        odd = (len(buffer) - len(buffer.rstrip(b"\\"))) % 2
        scanned = len(buffer) - odd
        if len(buffer) - start > limit and not ended:
            too_long, head = True, head or buffer[start : start + ROW_BYTES].lstrip()
            start = scanned
    if not ended:
        raise _broken_array("It is never closed.")
