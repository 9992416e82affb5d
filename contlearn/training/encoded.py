"""Records as tensors, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from contlearn.interfaces import Task
from contlearn.modeling.packing import MASK, pack
from contlearn.types import Encoding, LabelledRecord, LabelSpace

if TYPE_CHECKING:
    from numpy.random import Generator

    from contlearn.modeling.checkpoint import Checkpoint

__all__ = ["EncodedSet", "Part", "count_batches", "encode_records", "plan_epoch", "unread_notes"]

# Batches of like length are cut from pools of this many batches, so that order stays random.
_POOL: Final = 16
# Losses whose targets are numbers, one for each output, and no positions.
NUMBERS: Final = frozenset(("sigmoid", "squared"))


@dataclass(slots=True)
class EncodedSet:
    """Encoded records: packed inputs and, for each input, the targets of its rows.

    A record that became several windows stands in several rows; `owners` says whose they are.
    Targets are what the head's loss takes: positions, or numbers for each output.

    Shape: packed (n, 2 or 3, L), lengths (n,), flat (sum of rows) or (sum of rows, C), offsets
    (n + 1,), owners (n,).
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

    @property
    def has_positions(self) -> bool:
        """Whether the target of a row is a position, and not a row of numbers."""
        return not self.flat.is_floating_point()

    def targets_of(self, index: int) -> Tensor:
        """Give the targets of one input. Shape: (rows,), or (rows, C)."""
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def label_counts(self, times: Sequence[float], *, labels: int) -> list[float]:
        """Count the labels of all rows, where input i is shown `times[i]` times.

        Only where targets are positions.
        """
        rows = np.repeat(times, np.diff(self.offsets.numpy()))
        found = np.bincount(self.flat.numpy(), weights=rows, minlength=labels)
        return [float(count) for count in found]

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
    has_places = checkpoint.model.has_places
    windows: list[Encoding] = []
    owners: list[int] = []
    targets: list[tuple[Any, ...]] = []
    for owner, (record, parts) in enumerate(zip(records, encoded, strict=True)):
        learnt = task.learn(record.target, parts, space)
        taken = 0
        for part in parts:
            rows = len(part.word_starts) if has_places else 1
            rows_targets = learnt[taken : taken + rows] if has_places else learnt[:1]
            taken += rows
            if rows_targets:
                windows.append(part)
                owners.append(owner)
                targets.append(rows_targets)
    packed = pack(windows, pad_id=checkpoint.pad_id, places=has_places)
    sizes = [len(rows_targets) for rows_targets in targets]
    return EncodedSet(
        packed=packed,
        lengths=packed[:, MASK].sum(dim=1),
        flat=torch.tensor(
            [row for rows_targets in targets for row in rows_targets],
            dtype=torch.float32 if checkpoint.model.loss in NUMBERS else torch.long,
        ),
        offsets=torch.tensor([0, *np.cumsum(sizes).tolist()], dtype=torch.long),
        owners=torch.tensor(owners, dtype=torch.long),
        records=tuple(records),
        encodings=tuple(encoded),
    )


def unread_notes(data: EncodedSet, task: Task, *, max_tokens: int) -> list[str]:
    """Say what of the texts a model does not read, so that nothing of it can be learnt.

    Returns:
        A sentence for the words without pieces, and one for what is cut; none when all is read.
    """
    lost, cut, texts = _Unread(not data.is_flat), _Unread(not data.is_flat), 0
    for record, parts in zip(data.records, data.encodings, strict=True):
        texts += any(part.truncated for part in parts)
        read = {word for part in parts for word in part.words}
        units = () if data.is_flat else task.units(record.target)
        labels = [task.unit_label(unit) for unit in units]
        lost.add({w for part in parts for w in part.lost_words} - read, labels)
        cut.add({w for part in parts for w in part.cut_words} - read, labels)
    notes = []
    if lost.words:
        notes.append(
            f"{lost} have no piece in the tokenizer, so nothing can be learnt of them: signs that "
            "its normaliser deletes, standing alone"
        )
    if cut.words:
        notes.append(f"{cut} lie beyond the limit of {max_tokens} tokens (model.max_tokens)")
    elif texts:
        notes.append(
            f"{texts} of {len(data.records)} texts are cut at the limit of {max_tokens} tokens "
            "(model.max_tokens)"
        )
    return [note + "." for note in notes]


@dataclass(slots=True)
class _Unread:
    """Words that are not read, in how many texts, and how many a label is about, where words have
    labels.
    """

    has_labels: bool
    words: int = 0
    texts: int = 0
    labelled: int = 0

    def add(self, words: set[int], labels: Sequence[str | None]) -> None:
        """Count those of one text; `labels` are those of its words, where words have them."""
        self.words += len(words)
        self.texts += bool(words)
        self.labelled += sum(word < len(labels) and labels[word] is not None for word in words)

    def __str__(self) -> str:
        labelled = f", {self.labelled} of them labelled," if self.has_labels else ""
        return f"{self.words} words of {self.texts} texts{labelled}"


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


def count_batches(inputs: int, *, batch_size: int) -> int:
    """Say how many batches `plan_epoch` makes of so many inputs.

    Example:
        >>> [count_batches(n, batch_size=8) for n in (0, 8, 9)]
        [0, 1, 2]
    """
    # All pools but the last are whole batches, so pooling makes no batch more.
    return -(-inputs // batch_size)


@dataclass(slots=True)
class Part:
    """Encoded records and which of them training may not see, by position."""

    data: EncodedSet
    train: list[int]
    validation: list[int]

    def training_set(self) -> EncodedSet:
        """Give what may be trained on."""
        return self.data.subset(self.train)

    def validation_set(self) -> EncodedSet:
        """Give what early stopping and choices are measured on."""
        return self.data.subset(self.validation)
