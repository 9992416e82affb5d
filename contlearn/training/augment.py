"""New texts, changed a little in every epoch: operations on words and pieces, or any function.

The changes of an epoch follow from its number and the seed alone, so a training that was killed
sees the same texts again.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from contlearn.config import AugmentationConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import Task
from contlearn.tasks.vocabulary import unknown_piece
from contlearn.training.encoded import EncodedSet
from contlearn.types import Inputs

if TYPE_CHECKING:
    from contlearn.modeling.checkpoint import Checkpoint

__all__ = ["Augmenter", "change_words"]

Words: TypeAlias = list[str]
_WHERE: Final = "training.augmentation in contlearn.toml"
# Stands for a hidden word until the tokenizer's own piece takes its place; no text holds it.
_HIDDEN: Final = "\0mask"


def _typo(words: Words, place: int, draw: random.Random) -> Words:
    """Swap, drop, double or replace one letter."""
    word = words[place]
    if len(word) < 3:
        return words
    at = draw.randrange(len(word) - 1)
    changed = draw.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + draw.choice(string.ascii_lowercase) + word[at + 1 :],
        )
    )
    return [*words[:place], changed, *words[place + 1 :]]


def _case(words: Words, place: int, draw: random.Random) -> Words:
    word = words[place]
    changed = draw.choice((word.lower(), word.upper(), word.capitalize()))
    return [*words[:place], changed, *words[place + 1 :]]


def _mask(words: Words, place: int, _draw: random.Random) -> Words:
    return [*words[:place], _HIDDEN, *words[place + 1 :]]


def _swap(words: Words, place: int, draw: random.Random) -> Words:
    other = draw.randrange(len(words))
    changed = list(words)
    changed[place], changed[other] = changed[other], changed[place]
    return changed


def _delete(words: Words, place: int, _draw: random.Random) -> Words:
    return [*words[:place], *words[place + 1 :]] if len(words) > 1 else words


def _duplicate(words: Words, place: int, _draw: random.Random) -> Words:
    return [*words[: place + 1], *words[place:]]


_OPERATIONS: Final[dict[str, Callable[[Words, int, random.Random], Words]]] = {
    "typo": _typo,
    "case": _case,
    "mask": _mask,
    "swap": _swap,
    "delete": _delete,
    "duplicate": _duplicate,
}
_KEEP_WORDS: Final = frozenset({"typo", "case", "mask"})


def change_words(
    words: Sequence[str], name: str, *, strength: float, seed: str, mask: str = "[MASK]"
) -> list[str]:
    """Apply an operation to a share of the words, at least one.

    `mask` is what the operation of that name puts in a word's place: the tokenizer's own piece.

    Example:
        >>> change_words(["to", "be", "or", "not"], "delete", strength=0.5, seed="1")
        ['to', 'or']
    """
    draw = random.Random(seed)
    found = list(words)
    for _ in range(max(1, round(strength * len(found)))):
        if found:
            found = _OPERATIONS[name](found, draw.randrange(len(found)), draw)
    return [mask if word == _HIDDEN else word for word in found]


class Augmenter:
    """Gives an epoch's data with a share of the new texts changed.

    A text whose change would need another number of rows (a cut text, a lost word) stays as it is.

    Args:
        config: Operations, share of texts, share of words.
        data: New inputs first; only these are changed.
        new: How many inputs are new.
        task: Encodes.
        checkpoint: Its tokenizer.
        max_tokens: Longer texts are cut.
        seed: Of all draws.
    Raises:
        ConfigError: When an operation does not suit the task, or the tokenizer.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        data: EncodedSet,
        *,
        new: int,
        task: Task,
        checkpoint: Checkpoint,
        max_tokens: int,
        seed: int,
    ) -> None:
        self.config, self.data, self.new = config, data, new
        self.task, self.checkpoint, self.max_tokens = task, checkpoint, max_tokens
        self.seed = seed
        self._functions: dict[str, Callable[[str, random.Random], str]] = {}
        self._translated: dict[str, str] = {}
        self._translate: Callable[[Sequence[str]], list[str]] | None = None
        tokenizer = checkpoint.tokenizer
        self._mask = tokenizer.mask_token or unknown_piece(tokenizer.backend_tokenizer)
        if "mask" in config.operations and not self._mask:
            raise ConfigError(
                "The augmentation 'mask' hides words behind a piece, but the tokenizer of this "
                "base model has neither a mask nor an unknown piece.",
                where=_WHERE,
                hint="Leave 'mask' out, or choose a base model such as BERT.",
            )
        has_places = checkpoint.model.has_places
        for name in config.operations:
            if has_places and name not in _KEEP_WORDS:
                raise ConfigError(
                    f"The augmentation {name!r} may change the number of words, but each word "
                    "has a label.",
                    where=_WHERE,
                    hint=f"Use {', '.join(sorted(_KEEP_WORDS))}.",
                )
            if ":" in name:
                from contlearn.training.optim import import_path

                self._functions[name] = import_path(name, where=_WHERE, known=())
        if "back-translation" in config.operations:
            from contlearn.training.translation import back_translator

            self._translate = back_translator(config.models)

    def __call__(self, epoch: int) -> EncodedSet:
        """Give the data of an epoch."""
        import torch

        data = self.data
        draw = random.Random(f"{self.seed}:{epoch}")
        rows = [i for i in range(self.new) if self._has_one_window(i)]
        chosen = [i for i in rows if draw.random() < self.config.share]
        names = [draw.choice(self.config.operations) for _ in chosen]
        records = [data.records[int(data.owners[i])] for i in chosen]
        self._prepare([r.inputs for r, n in zip(records, names, strict=True) if n == _BACK])
        inputs = [
            self._changed(record.inputs, name, f"{self.seed}:{epoch}:{i}")
            for i, record, name in zip(chosen, records, names, strict=True)
        ]
        if not inputs:
            return data
        encoded = self.task.encode(
            self.checkpoint.tokenizer.backend_tokenizer, inputs, self.max_tokens
        )
        packed, lengths = data.packed.clone(), data.lengths.clone()
        from contlearn.modeling.packing import IDS, MASK, pack

        for i, parts in zip(chosen, encoded, strict=True):
            if len(parts) != 1 or not parts[0].input_ids:
                continue
            wanted = int(data.offsets[i + 1] - data.offsets[i])
            if not data.is_flat and len(parts[0].word_starts) != wanted:
                continue
            row = pack(parts, pad_id=self.checkpoint.pad_id, places=not data.is_flat)
            size = row.shape[2]
            if size > packed.shape[2]:
                missing = size - packed.shape[2]
                packed = torch.nn.functional.pad(packed, (0, missing))
            packed[i] = 0
            packed[i, IDS] = self.checkpoint.pad_id
            packed[i, :, :size] = row[0]
            lengths[i] = int(row[0, MASK].sum())
        return replace(data, packed=packed, lengths=lengths)

    def _has_one_window(self, row: int) -> bool:
        return len(self.data.encodings[int(self.data.owners[row])]) == 1

    def _prepare(self, inputs: Sequence[Inputs]) -> None:
        """Translate what was never translated, in one go."""
        if self._translate is None:
            return
        values = [value for one in inputs for value in one.values()]
        texts = [value if isinstance(value, str) else " ".join(value) for value in values]
        fresh = sorted(set(texts) - set(self._translated))
        if fresh:
            self._translated.update(zip(fresh, self._translate(fresh), strict=True))

    def _changed(self, inputs: Inputs, name: str, seed: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field, value in inputs.items():
            place = f"{seed}:{field}"
            if isinstance(value, str):
                found[field] = self._text(value, name, place)
            elif name in _OPERATIONS:
                found[field] = tuple(self._words(value, name, place))
            else:
                text = " ".join(value)
                changed = self._text(text, name, place)
                found[field] = value if changed == text else tuple(changed.split())
        return found

    def _words(self, words: Sequence[str], name: str, seed: str) -> Sequence[str]:
        return change_words(
            words, name, strength=self.config.strength, seed=seed, mask=self._mask or ""
        )

    def _text(self, text: str, name: str, seed: str) -> str:
        if name == _BACK:
            return self._translated.get(text) or text
        if name in self._functions:
            try:
                found = self._functions[name](text, random.Random(seed))
            except Exception as error:
                raise TrainingError(
                    f"The augmentation {name!r} failed: {type(error).__name__}: {error}",
                    where=_WHERE,
                    hint="Write def change(text: str, random: random.Random) -> str.",
                ) from error
            return found if isinstance(found, str) and found.strip() else text
        words = text.split()
        return " ".join(self._words(words, name, seed)) if words else text


_BACK: Final = "back-translation"
