"""Which side a record stands on: fixed once, by a seeded hash, and the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["held_out_by_hash", "union_groups"]


def held_out_by_hash(
    keys: NDArray[np.uint64], *, seed: int, held_out_ratio: float
) -> NDArray[np.bool_]:
    """Say which split keys belong to the held-out side.

    A key stays on its side whatever else arrives; over many keys the share is `held_out_ratio`.

    Shape: keys (n,), the first eight bytes of the key's hash; the answer (n,).
    Source: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014) mixes the seed in.
    Example:
        >>> keys = np.arange(10_000, dtype=np.uint64)
        >>> float(held_out_by_hash(keys, seed=1, held_out_ratio=0.1).mean())
        0.10
    """
    offset = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
    mixed = keys.astype(np.uint64) + np.uint64(offset)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    # 53 bits, so that the comparison is exact in a float.
    part: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return part < held_out_ratio


def union_groups(
    size: int, pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> NDArray[np.int64]:
    """Join rows that belong together, and name each group by its first row.

    Args:
        size: How many rows there are.
        pairs: Rows that belong together, as two arrays of equal length each.
    Shape: the answer (size,).
    Example:
        >>> union_groups(5, [(np.array([0, 3]), np.array([2, 4]))]).tolist()
        [0, 1, 0, 3, 3]
    """
    parent = np.arange(size, dtype=np.int64)
    edges = [np.stack(pair) for pair in pairs if len(pair[0])]
    if not edges:
        return parent
    left, right = np.concatenate(edges, axis=1)
    while True:
        # Each edge hands the smaller name to the other side; halving paths keeps rounds few.
        a, b = parent[left], parent[right]
        if np.array_equal(a, b):
            return parent
        low, high = np.minimum(a, b), np.maximum(a, b)
        np.minimum.at(parent, high, low)
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]
