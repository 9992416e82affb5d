"""One tensor for a batch of inputs, so that any library that moves tensors around can carry it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

from contlearn.types import Encoding

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IDS", "MASK", "PLACES", "pack", "trim"]

# The rows of a packed input: piece ids, attention mask, and, for heads that score places, 1 at each
# piece that has a row of scores: the first of each word, or all that the task marks.
IDS: Final = 0
MASK: Final = 1
PLACES: Final = 2


def pack(encodings: Sequence[Encoding], *, pad_id: int, places: bool = False) -> Tensor:
    """Put encodings into one tensor, padded on the right to the longest of them.

    Args:
        encodings: What the task made of the inputs.
        pad_id: The id that stands where there is no piece.
        places: Add the row that marks the pieces with scores.
    Shape: (n, 2, L), or (n, 3, L) with places.
    Example:
        >>> pack([Encoding(input_ids=(5, 6)), Encoding(input_ids=(7,))], pad_id=0).tolist()
        [[[5, 6], [1, 1]], [[7, 0], [1, 0]]]
    """
    longest = max((len(encoding.input_ids) for encoding in encodings), default=1)
    packed = torch.zeros((len(encodings), 3 if places else 2, max(longest, 1)), dtype=torch.long)
    packed[:, IDS] = pad_id
    for row, encoding in enumerate(encodings):
        size = len(encoding.input_ids)
        packed[row, IDS, :size] = torch.tensor(encoding.input_ids, dtype=torch.long)
        packed[row, MASK, :size] = 1
        if places and encoding.word_starts:
            packed[row, PLACES, torch.tensor(encoding.word_starts, dtype=torch.long)] = 1
    return packed


def trim(packed: Tensor) -> Tensor:
    """Cut the padding that all rows share. Shape: (n, k, L) to (n, k, longest row)."""
    longest = int(packed[:, MASK].sum(dim=1).max()) if len(packed) else 1
    return packed[:, :, : max(longest, 1)]
