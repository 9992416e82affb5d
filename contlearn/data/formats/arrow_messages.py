"""How much memory the messages of an Arrow file ask for, before any of them is unpacked.

pyarrow unpacks a whole batch at once, and a kilobyte can ask for gigabytes. The sizes stand in the
messages: a FlatBuffers table says where each buffer lies, and a packed buffer begins with its size.

Source: the Arrow columnar format, "Encapsulated message format" and "Buffer compression"; its
Message.fbs; the FlatBuffers internals page for tables and vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from contlearn.workspace import foreign_name

__all__ = ["asked_bytes"]

_FILE_HEAD: Final = 8
# Kinds of a message's header, and the places of fields in their tables.
_DICTIONARY, _BATCH = 2, 3
_HEADER_KIND, _HEADER = 1, 2
_DICTIONARY_BATCH = 1
_BUFFERS, _COMPRESSION = 2, 3


def asked_bytes(path: Path, *, is_file: bool, most: int) -> int:
    """Add up what the buffers of all messages unpack to; stop where it is more than `most`.

    Args:
        path: An Arrow file or stream.
        is_file: Whether it is the file format, with a footer.
        most: Where to stop.
    Raises:
        ValueError: When a message says what cannot be.
    """
    import pyarrow as pa

    total = 0
    with pa.memory_map(foreign_name(path)) as source:
        source.seek(_FILE_HEAD if is_file else 0)
        for message in pa.ipc.MessageReader.open_stream(source):
            try:
                for size in _sizes(bytes(message.metadata), message.body):
                    if size < 0:
                        raise ValueError("a packed buffer has no size")
                    total += size
            except (struct.error, IndexError) as error:
                raise ValueError("a message is damaged") from error
            if total > most:
                break
    return total


def _sizes(table: bytes, body: Any) -> Iterator[int]:
    """Give what each packed buffer of a message unpacks to."""
    (root,) = struct.unpack_from("<I", table)
    place = _field(table, root, _HEADER_KIND)
    kind = table[place] if place else 0
    if kind not in (_DICTIONARY, _BATCH):
        return
    batch = _table(table, root, _HEADER)
    if kind == _DICTIONARY:
        batch = _table(table, batch, _DICTIONARY_BATCH)
    vector = _field(table, batch, _BUFFERS)
    if not vector or not _field(table, batch, _COMPRESSION):
        return
    vector += struct.unpack_from("<I", table, vector)[0]
    (count,) = struct.unpack_from("<I", table, vector)
    for i in range(count):
        offset, length = struct.unpack_from("<qq", table, vector + 4 + 16 * i)
        if length:
            if offset < 0 or length < 8 or offset + length > body.size:
                raise ValueError("a buffer lies outside its message")
            (size,) = struct.unpack("<q", body[offset : offset + 8].to_pybytes())
            # -1 says that this buffer is not packed after all.
            yield length if size == -1 else size


def _field(table: bytes, at: int, number: int) -> int:
    """Give the place of a table's field, or 0 where it has its default."""
    (back,) = struct.unpack_from("<i", table, at)
    layout = at - back
    if layout < 0:
        raise ValueError("a message is damaged")
    (size,) = struct.unpack_from("<H", table, layout)
    place = 4 + 2 * number
    if place + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", table, layout + place)
    return at + offset if offset else 0


def _table(table: bytes, at: int, number: int) -> int:
    """Follow a field that is a table itself."""
    place = _field(table, at, number)
    if not place:
        raise ValueError("a message is damaged")
    return int(place + struct.unpack_from("<I", table, place)[0])
