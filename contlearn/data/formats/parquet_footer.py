"""How many values a Parquet file holds, from its footer.

pyarrow can be asked as well, column by column, but a column whose description contradicts itself
then ends the process: an exception of its C++ part that no Python code can catch (pyarrow 26.0).
So the footer, a struct of the Thrift compact protocol, is walked here, and all but one number of
it passed over.

Source: the Parquet format, parquet.thrift; the Thrift compact protocol's specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["value_count"]

# The length of the footer in four bytes, and "PAR1".
_TAIL: Final = 8
# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = (
    1, 2, 3, 7, 8, 9, 10, 11, 12, 13,
)  # fmt: skip
_INTEGERS: Final = (4, 5, 6)
_FIXED: Final = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8, _UUID: 16}
# FileMetaData.row_groups, RowGroup.columns, ColumnChunk.meta_data, ColumnMetaData.num_values
_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES = 4, 1, 3, 5
_DEEPEST: Final = 64


def value_count(path: Path) -> int:
    """Add up the values of all columns in all row groups; those in lists count one by one.

    Raises:
        ValueError: When the footer is damaged.
    """
    with path.open("rb") as source:
        size = source.seek(0, 2)
        source.seek(max(0, size - _TAIL))
        tail = source.read()
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < _TAIL or length > size - _TAIL:
            raise ValueError("the footer is longer than the file")
        source.seek(size - _TAIL - length)
        walk = _Walk(source.read(length))
    try:
        return sum(
            max(0, walk.integer())
            for _ in walk.structs_of(_ROW_GROUPS)
            for _ in walk.structs_of(_COLUMNS)
            for _ in walk.fields_of(_META_DATA, _STRUCT)
            for _ in walk.fields_of(_NUM_VALUES, _INTEGERS[-1])
        )
    except IndexError as error:
        raise ValueError("the footer ends too early") from error


class _Walk:
    """A way through a struct, from its first byte to its last."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        found, shift = 0, 0
        while True:
            byte = self.byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7
            if shift > 63:
                raise ValueError("a number in the footer has no end")

    def integer(self) -> int:
        found = self.varint()
        return (found >> 1) ^ -(found & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Give the number and the type of each field; whoever takes one reads it or skips it."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 0x0F

    def fields_of(self, wanted: int, kind: int) -> Iterator[None]:
        """Stop at each field with this number and type; pass over the others."""
        for number, found in self.fields():
            if (number, found) == (wanted, kind):
                yield
            else:
                self.skip(found)

    def structs_of(self, wanted: int) -> Iterator[None]:
        """Stop at each struct of the list that is the field with this number."""
        for _ in self.fields_of(wanted, _LIST):
            kind, count = self.elements()
            for _ in range(count):
                if kind == _STRUCT:
                    yield
                else:
                    self.skip(kind, is_element=True)

    def elements(self) -> tuple[int, int]:
        """Read the head of a list or a set: the type of its elements and how many they are."""
        head = self.byte()
        return head & 0x0F, self.varint() if head >> 4 == 0x0F else head >> 4

    def skip(self, kind: int, *, is_element: bool = False, depth: int = 0) -> None:
        """Pass over a value; a truth is in its field's head, but has a byte as an element."""
        if depth > _DEEPEST:
            raise ValueError("the footer is nested too deep")
        if kind in _INTEGERS:
            self.varint()
        elif kind == _BINARY:
            length = self.varint()
            self.at += length
        elif kind in (_LIST, _SET):
            of, count = self.elements()
            for _ in range(count):
                self.skip(of, is_element=True, depth=depth + 1)
        elif kind == _MAP:
            count = self.varint()
            kinds = divmod(self.byte(), 16) if count else ()
            for _ in range(count):
                for of in kinds:
                    self.skip(of, is_element=True, depth=depth + 1)
        elif kind == _STRUCT:
            for _, of in self.fields():
                self.skip(of, depth=depth + 1)
        elif kind in _FIXED:
            self.at += 1 if is_element and kind in (_TRUE, _FALSE) else _FIXED[kind]
        else:
            raise ValueError(f"the footer has a value of the unknown type {kind}")
        if self.at > len(self.data):
            raise IndexError
