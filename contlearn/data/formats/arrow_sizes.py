"""How long the rows of an Arrow batch are, before any of their values becomes a Python object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sizes = NDArray[np.int64]

__all__ = ["is_text", "row_bytes"]


def is_text(kind: Any) -> bool:
    """Say whether values of an Arrow type are texts or runs of bytes."""
    import pyarrow as pa

    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in (*tests, types.is_string_view, types.is_binary_view))


def row_bytes(batch: Any) -> Sizes:
    """Say how many bytes the texts of each row have, at any depth, and one for each list's element.

    A value that is kept once and stands in many places counts in each of them.
    """
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        total += _sizes(column)
    return total


def _sizes(array: Any) -> Sizes:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = array.type, pa.types
    if is_text(kind):
        if types.is_string_view(kind) or types.is_binary_view(kind):
            array = array.cast(pa.large_binary())
        return _numbers(pc.binary_length(array))
    if types.is_dictionary(kind):
        return _numbers(pa.array(_sizes(array.dictionary), pa.int64()).take(array.indices))
    if types.is_run_end_encoded(kind):
        runs = np.diff(array.run_ends.to_numpy(zero_copy_only=False), prepend=0)
        repeated: Sizes = np.repeat(_sizes(array.values), runs)[: len(array)]
        return repeated
    if types.is_struct(kind):
        total = np.zeros(len(array), dtype=np.int64)
        for field in array.flatten():
            total += _sizes(field)
        return total
    if types.is_map(kind):
        return _summed(_sizes(array.keys) + _sizes(array.items), array.offsets)
    if types.is_list(kind) or types.is_large_list(kind):
        return _summed(_sizes(array.values), array.offsets)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        ends = np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * size
        return _between(_sizes(array.values), ends)
    if hasattr(kind, "value_type") and types.is_nested(kind):
        return _sizes(array.cast(pa.large_list(kind.value_type)))
    return np.zeros(len(array), dtype=np.int64)


def _summed(inner: Sizes, offsets: Any) -> Sizes:
    return _between(inner, offsets.to_numpy(zero_copy_only=False).astype(np.int64))


def _between(inner: Sizes, ends: Sizes) -> Sizes:
    """Add up the elements of each list, one more for each of them."""
    before = np.concatenate(([0], np.cumsum(inner + 1)))
    result: Sizes = before[ends[1:]] - before[ends[:-1]]
    return result


def _numbers(lengths: Any) -> Sizes:
    import pyarrow.compute as pc

    result: Sizes = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return result
