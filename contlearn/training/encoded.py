"""Records as tensors, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from contlearn.interfaces import Task
from contlearn.modeling.packing import MASK, pack
from contlearn.types import Encoding, LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from numpy.random import Generator

    from contlearn.modeling.checkpoint import Checkpoint

__all__ = ["EncodedSet", "encode_records", "plan_epoch"]

# Batches of like length are cut from pools of this many batches, so that order stays random.
_POOL: Final = 16


@dataclass(slots=True)
class EncodedSet:
    """Encoded records: packed inputs and, for each input, the label positions of its rows.

    A record that became several windows stands in several rows; `owners` says whose they are.

    Shape: packed (n, 2 or 3, L), lengths (n,), flat (sum of rows), offsets (n + 1,), owners (n,).
    """

    packed: Tensor
    lengths: Tensor
    flat: Tensor
    offsets: Tensor
    owners: Tensor
    records: tuple[LabelledRecord, ...] = ()
    encodings: tuple[tuple[Encoding, ...], ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return int(self.packed.shape[0])

    @property
    def is_flat(self) -> bool:
        """Whether every input has exactly one row of logits."""
        return self.packed.shape[1] == 2

    def targets_of(self, index: int) -> Tensor:
        """Give the label positions of one input. Shape: (rows,)."""
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Give inputs without shared padding, and their targets one after the other."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        longest = max(int(self.lengths[chosen].max()), 1)
        packed = self.packed[chosen, :, :longest]
        if self.is_flat:
            return packed, self.flat[chosen]
        return packed, torch.cat([self.targets_of(int(i)) for i in indices])

    def subset(self, records: Sequence[int]) -> EncodedSet:
        """Take some of the records, by their positions, with all their windows."""
        place = {record: i for i, record in enumerate(records)}
        rows = [i for i, owner in enumerate(self.owners.tolist()) if owner in place]
        rows.sort(key=lambda i: (place[int(self.owners[i])], i))
        pieces = [self.targets_of(i) for i in rows]
        sizes = [len(piece) for piece in pieces]
        return EncodedSet(
            packed=self.packed[rows],
            lengths=self.lengths[rows],
            flat=torch.cat(pieces) if pieces else self.flat[:0],
            offsets=torch.tensor([0, *np.cumsum(sizes).tolist()], dtype=torch.long),
            owners=torch.tensor([place[int(self.owners[i])] for i in rows], dtype=torch.long),
            records=tuple(self.records[i] for i in records),
            encodings=tuple(self.encodings[i] for i in records),
        )

    def joined(self, other: EncodedSet) -> EncodedSet:
        """Put another set behind this one."""
        longest = max(self.packed.shape[2], other.packed.shape[2])
        return EncodedSet(
            packed=torch.cat([_widen(self.packed, longest), _widen(other.packed, longest)]),
            lengths=torch.cat([self.lengths, other.lengths]),
            flat=torch.cat([self.flat, other.flat]),
            offsets=torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            owners=torch.cat([self.owners, other.owners + len(self.records)]),
            records=self.records + other.records,
            encodings=self.encodings + other.encodings,
        )


def _widen(packed: Tensor, length: int) -> Tensor:
    # Padding is never read: the mask is 0 there.
    return torch.nn.functional.pad(packed, (0, length - packed.shape[2]))


def encode_records(
    records: Sequence[LabelledRecord],
    checkpoint: Checkpoint,
    *,
    task: Task,
    space: LabelSpace,
    max_tokens: int,
) -> EncodedSet:
    """Tokenise records and look their targets up. Inputs without any row are left out."""
    tokenizer = checkpoint.tokenizer.backend_tokenizer
    inputs = [record.inputs for record in records]
    encoded = task.encode(tokenizer, inputs, max_tokens) if inputs else []
    words = checkpoint.model.per == "word"
    windows: list[Encoding] = []
    owners: list[int] = []
    targets: list[tuple[int, ...]] = []
    for owner, (record, parts) in enumerate(zip(records, encoded, strict=True)):
        positions = task.encode_target(record.target, parts, space)
        taken = 0
        for part in parts:
            rows = len(part.word_starts) if words else 1
            rows_targets = positions[taken : taken + rows] if words else positions[:1]
            taken += rows
            if rows_targets:
                windows.append(part)
                owners.append(owner)
                targets.append(tuple(rows_targets))
    packed = pack(windows, pad_id=checkpoint.pad_id, words=words)
    sizes = [len(positions) for positions in targets]
    return EncodedSet(
        packed=packed,
        lengths=packed[:, MASK].sum(dim=1),
        flat=torch.tensor([p for positions in targets for p in positions], dtype=torch.long),
        offsets=torch.tensor([0, *np.cumsum(sizes).tolist()], dtype=torch.long),
        owners=torch.tensor(owners, dtype=torch.long),
        records=tuple(records),
        encodings=tuple(encoded),
    )


def plan_epoch(
    lengths: Tensor, indices: Sequence[int], *, batch_size: int, generator: Generator
) -> list[list[int]]:
    """Shuffle inputs into batches of like length, in random order.

    Args:
        lengths: The length of every input.
        indices: The inputs of this epoch; one may stand there twice.
        batch_size: Inputs in a batch; the last of a pool may be smaller.
        generator: Where the randomness comes from.
    """
    order = generator.permutation(np.asarray(indices, dtype=np.int64))
    sizes = lengths.numpy()
    batches: list[list[int]] = []
    step = batch_size * _POOL
    for start in range(0, len(order), step):
        part = order[start : start + step]
        part = part[np.argsort(sizes[part], kind="stable")]
        batches.extend(part[i : i + batch_size].tolist() for i in range(0, len(part), batch_size))
    return [batches[i] for i in generator.permutation(len(batches))]
