"""Bytes of a file as UTF-8 lines: unpacked, bounded, and refused early where they are no text."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import shlex
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from contlearn.config import LimitsConfig
from contlearn.data.formats.encodings import EncodingGuess
from contlearn.errors import RecordError

__all__ = [
    "COMPRESSIONS",
    "TextFile",
    "iter_lines",
    "named_hint",
    "open_text",
    "open_unpacked",
    "refuse_file",
    "unpacked_file",
]

# Suffix of a compressed file, and the bytes it must begin with.
COMPRESSIONS: Final = {
    ".gz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\x00",
    ".zst": b"\x28\xb5\x2f\xfd",
}
_CHUNK: Final = 1 << 18
_SAMPLE: Final = 1 << 16
# How much is kept of a row that is too long, and of any other that is refused.
HEAD_BYTES: Final = 2_000
ROW_BYTES: Final = 65_536
# The largest dictionary an .xz file may ask for.
_XZ_MEMORY: Final = 192 << 20
_MAGIC: Final = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"\x7fELF": "a program",
    b"SQLite format 3\x00": "a SQLite database",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_TEXT_CONTROLS: Final = bytes(set(range(32)) - {0, 8, 9, 10, 11, 12, 13, 27}) + b"\x7f"
# In the order in which they must be looked for: the mark of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Readable(Protocol):
    """Anything that gives the next bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Give at most `size` bytes; none at the end."""
        ...


def refuse_file(reason: str, what: str, hint: str) -> RecordError:
    """Make the error that refuses a whole file; its `where` is the reason code."""
    return RecordError(what, where=reason, hint=hint)


def named_hint(hint: str, name: str) -> str:
    """Put a file's own name into a command that a hint gives.

    Example:
        >>> named_hint("Convert it: iconv -f KOI8-R -t UTF-8 OLD > NEW", "my file.csv")
        "Convert it: iconv -f KOI8-R -t UTF-8 'my file.csv' > NEW"
    """
    return hint.replace(" OLD ", f" {shlex.quote(name)} ") if " OLD " in hint else hint


def open_unpacked(path: Path, limits: LimitsConfig) -> tuple[Readable, BinaryIO]:
    """Open a file and unpack it by its suffix, bounded in size and in ratio.

    Returns:
        What to read from, and the open file to close.
    Raises:
        RecordError: bad-gzip or too-long, at once or while reading.
    """
    file = path.open("rb")
    suffix = path.suffix.lower()
    if suffix not in COMPRESSIONS:
        return file, file
    size = path.stat().st_size
    try:
        if file.read(len(COMPRESSIONS[suffix])) != COMPRESSIONS[suffix]:
            if size == 0:
                return io.BytesIO(), file
            raise refuse_file(
                "bad-gzip",
                f"The name ends in {suffix}, but the content is not compressed that way.",
                f"Compress it, or take {suffix} off its name.",
            )
        file.seek(0)
        return _Bounded(_unpacker(file, suffix), suffix, size, limits), file
    except BaseException:
        file.close()
        raise


def _unpacker(file: BinaryIO, suffix: str) -> Readable:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if suffix == ".bz2":
        return _StreamReader(file, bz2.BZ2Decompressor)
    if suffix == ".xz":
        return _StreamReader(file, _xz_decompressor)
    import pyarrow as pa

    stream: Readable = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    return stream


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


class _StreamReader:
    """Unpacks streams that stand one behind the other, with zeros between them or none.

    Unlike bz2.BZ2File it refuses what follows and is no stream, and unlike lzma.LZMAFile it takes a
    decompressor with a bound on its dictionary.
    """

    def __init__(
        self,
        file: BinaryIO,
        fresh: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
    ) -> None:
        self._file, self._fresh = file, fresh
        self._decompressor = fresh()

    def read(self, size: int = -1, /) -> bytes:
        while True:
            if self._decompressor.eof:
                # Another stream may follow, after padding of zeros.
                rest = self._decompressor.unused_data.lstrip(b"\0")
                while not rest:
                    more = self._file.read(_CHUNK)
                    if not more:
                        return b""
                    rest = more.lstrip(b"\0")
                self._decompressor = self._fresh()
                data = self._decompressor.decompress(rest, size)
            elif self._decompressor.needs_input:
                packed = self._file.read(_CHUNK)
                if not packed:
                    raise EOFError("the stream is cut")
                data = self._decompressor.decompress(packed, size)
            else:
                data = self._decompressor.decompress(b"", size)
            if data:
                return data


class _Bounded:
    """Counts what comes out of an unpacker and refuses what grows beyond the limits."""

    def __init__(self, inner: Readable, suffix: str, size: int, limits: LimitsConfig) -> None:
        self._inner, self._suffix = inner, suffix
        by_ratio = int(max(size, 1024) * limits.unpacked_ratio)
        self._limit = min(limits.unpacked_bytes, by_ratio)
        self._key = "unpacked_bytes" if limits.unpacked_bytes <= by_ratio else "unpacked_ratio"
        self._given = 0

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = bytes(self._inner.read(size))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise refuse_file(
                "bad-gzip",
                f"The compressed stream ({self._suffix}) is cut or damaged: {error}.",
                "Copy or compress the file again; nothing of it was used.",
            ) from error
        self._given += len(data)
        if self._given > self._limit:
            raise refuse_file(
                "too-long",
                f"The file unpacks to more than {self._limit:,} bytes.",
                f"Split it, or raise data.limits.{self._key} in contlearn.toml.",
            )
        return data


class _Transcoder:
    """Gives text of another encoding as UTF-8."""

    def __init__(self, inner: Callable[[int], bytes], encoding: str) -> None:
        self._inner, self._encoding = inner, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")

    def read(self, size: int) -> bytes:
        while True:
            data = self._inner(size)
            try:
                text = self._decoder.decode(data, final=not data)
                if text or not data:
                    return text.encode("utf-8")
            except UnicodeError as error:
                raise refuse_file(
                    "bad-encoding",
                    f"The file begins with the mark of {self._encoding.upper()}, but it is not "
                    f"that throughout.",
                    "Save it again as UTF-8.",
                ) from error


@contextlib.contextmanager
def unpacked_file(path: Path, limits: LimitsConfig) -> Iterator[Path]:
    """Give a file for readers that jump in it: the file itself, or its unpacked copy.

    Raises:
        RecordError: bad-gzip or too-long.
    """
    if path.suffix.lower() not in COMPRESSIONS:
        yield path
        return
    stream, file = open_unpacked(path, limits)
    with file, tempfile.NamedTemporaryFile(prefix="contlearn-") as copy:
        while data := stream.read(_CHUNK):
            copy.write(data)
        copy.flush()
        yield Path(copy.name)


class TextFile:
    """An open file as UTF-8 bytes without a mark; `notices` are (code, message) pairs.

    `guess` says what bytes are in that are not UTF-8 all the same.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        file: BinaryIO,
        notices: tuple[tuple[str, str], ...] = (),
        guess: EncodingGuess | None = None,
    ) -> None:
        self.read, self._file, self.notices = read, file, notices
        self.guess = guess or EncodingGuess()

    def __enter__(self) -> TextFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_text(path: Path, limits: LimitsConfig) -> TextFile:
    """Open a file as text, whatever its compression and its Unicode encoding.

    Raises:
        RecordError: empty-file, bad-gzip, bad-encoding, binary or too-long.
    """
    stream, file = open_unpacked(path, limits)
    try:
        sample = b""
        while len(sample) < _SAMPLE and (more := stream.read(_SAMPLE)):
            sample += more
        if not sample:
            raise refuse_file("empty-file", "The file is empty.", "Put rows into it.")
        for mark, encoding in _MARKS:
            if sample.startswith(mark):
                read = _Rest(sample[len(mark) :], stream).read
                if encoding == "utf-8":
                    return TextFile(read, file)
                notice = f"The file is {encoding.upper()}; its rows are kept as UTF-8."
                return TextFile(_Transcoder(read, encoding).read, file, (("encoding", notice),))
        _refuse_no_text(sample)
        read, guess = _Rest(sample, stream).read, EncodingGuess(sample)
        if b"\r" in sample and b"\n" not in sample:
            said = ("newlines", "The lines end in CR alone, as on an old Macintosh.")
            return TextFile(_carriage_returns(read), file, (said,), guess)
        return TextFile(read, file, guess=guess)
    except BaseException:
        file.close()
        raise


def _carriage_returns(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: read(size).replace(b"\r", b"\n")


class _Rest:
    """What was read already, then the rest."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first, self._stream = first, stream

    def read(self, size: int) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        return self._stream.read(size)


def _refuse_no_text(sample: bytes) -> None:
    for magic, kind in _MAGIC.items():
        if sample.startswith(magic):
            raise refuse_file(
                "binary",
                f"The content is {kind}, not text.",
                "Give the file the ending of its format, or export it as JSON lines.",
            )
    zeros = sample.count(0)
    if zeros * 5 >= len(sample):
        # Where the zeros stand tells which half of a UTF-16 or UTF-32 unit is empty.
        places = [sample[i::4].count(0) for i in range(4)]
        even, odd = places[0] + places[2], places[1] + places[3]
        guess = None
        if zeros * 5 > len(sample) * 4:
            guess = None
        elif sum(count * 8 >= len(sample) for count in places) >= 3:
            guess = "UTF-32LE" if places[0] < places[3] else "UTF-32BE"
        elif max(even, odd) >= 4 * max(1, min(even, odd)):
            guess = "UTF-16BE" if even > odd else "UTF-16LE"
        if guess is not None:
            raise refuse_file(
                "bad-encoding",
                f"The file looks like {guess} without a byte order mark.",
                f"Convert it: iconv -f {guess} -t UTF-8 OLD > NEW",
            )
        raise refuse_file("binary", "The content is not text.", "Export it as JSON lines.")
    controls = len(sample) - len(sample.translate(None, _TEXT_CONTROLS)) + zeros
    if controls * 50 > len(sample) and (controls * 3 > len(sample) or not _is_utf8(sample)):
        raise refuse_file("binary", "The content is not text.", "Export it as JSON lines.")


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def iter_lines(
    read: Callable[[int], bytes], limit: int, *, dropped: Callable[[bytes], None] | None = None
) -> Iterator[tuple[int, bytes, bool]]:
    """Cut at LF bytes; never hold more than a line of the limit and one chunk.

    Args:
        read: Gives the next bytes.
        limit: The longest line.
        dropped: Called with what is left out of a line that is longer, piece by piece.
    Yields:
        Line number from 1, the line without its LF, and whether it was longer than the limit;
        then only its beginning is given.
    """
    number, rest = 0, b""
    at_end = False
    while not at_end:
        chunk = read(_CHUNK)
        at_end = not chunk
        lines = (rest + chunk).split(b"\n")
        rest = b"" if at_end else lines.pop()
        if at_end and not lines[-1]:
            lines.pop()
        for line in lines:
            number += 1
            if len(line) > limit:
                if dropped is not None:
                    dropped(line[HEAD_BYTES:])
                yield number, line[:HEAD_BYTES], True
            else:
                yield number, line, False
        if len(rest) > limit:
            head, tail, rest = rest[:HEAD_BYTES], rest[HEAD_BYTES:], b""
            number += 1
            if dropped is not None:
                dropped(tail)
            while chunk := read(_CHUNK):
                end = chunk.find(b"\n")
                if dropped is not None:
                    dropped(chunk if end < 0 else chunk[:end])
                if end >= 0:
                    rest = chunk[end + 1 :]
                    break
            yield number, head, True
