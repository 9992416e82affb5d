"""A model on disk: encoder and tokenizer as transformers writes them, the head beside them.

```
checkpoint/
  checkpoint.json     format version, labels in order, view, loss, pooling, dropout, base
  head.safetensors    weight (C, D), bias (C,)
  encoder/            config.json, model.safetensors
  addition.*          what a training method put around the encoder, if it did
  tokenizer/          tokenizer.json and its companions
```
Only safetensors and JSON are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from contlearn.errors import ConfigError, RegistryError, StorageError, TrainingError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.additions import (
    DAMAGED,
    addition_of,
    inner_encoder,
    load_addition,
    save_encoder,
)
from contlearn.modeling.base_check import base_fingerprint, check_saved_by
from contlearn.modeling.base_models import (
    load_encoder,
    load_tokenizer,
    local_folder,
    resolve_base,
)
from contlearn.modeling.base_trial import check_reading
from contlearn.modeling.majors import save_tokenizer
from contlearn.modeling.text_model import Pooling, TextModel
from contlearn.tasks.heads import head_problems
from contlearn.types import LabelSpace
from contlearn.workspace import read_json, storage_border, write_json_atomic

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "load_checkpoint",
    "new_checkpoint",
    "position_limit",
    "require_trainable",
    "save_checkpoint",
]

FORMAT_VERSION: Final = 1
# With an addition around the encoder, which readers of version 1 would pass over in silence.
WITH_ADDITION: Final = 2
# What encoders call their table of places: most of them, and those of the RoFormer kind.
_PLACES: Final = ("position_embeddings", "embed_positions")
# How checkpoints of an earlier contlearn name the views.
_EARLIER: Final = {"sequence": "pooled", "word": "words"}


@dataclass(slots=True)
class Checkpoint:
    """A model, its tokenizer, and the pretrained encoder it began from: its name and its files.

    `base_sha256` is the base's fingerprint, whatever it is called; None where nobody noted it.
    """

    model: TextModel
    tokenizer: Any
    base: str
    base_sha256: str | None = None

    @property
    def pad_id(self) -> int:
        """The id that fills short rows: the tokenizer's, else the encoder's, else 0."""
        found = self.tokenizer.pad_token_id
        if found is None:
            found = getattr(inner_encoder(self.model.encoder).config, "pad_token_id", None)
        return 0 if found is None else int(found)


def position_limit(encoder: nn.Module) -> int | None:
    """Give how many pieces of a text an encoder can read; None where it has no table of places.

    Encoders of the RoBERTa kind begin to count behind the padding id; vectors that stand before
    every text take places of it.
    """
    addition = addition_of(encoder)
    for name, module in inner_encoder(encoder).named_modules():
        # I-BERT's table is of a class of its own.
        table: Any = module if name.rpartition(".")[2] in _PLACES else None
        if hasattr(table, "weight") and hasattr(table, "padding_idx"):
            before = 0 if table.padding_idx is None else int(table.padding_idx) + 1
            before += 0 if addition is None else addition.places
            return int(table.weight.shape[0]) - before
    return None


def new_checkpoint(
    base: str,
    *,
    head: HeadSpec,
    pooling: Pooling = "mean",
    dropout: float = 0.1,
) -> Checkpoint:
    """Begin from a pretrained encoder with a fresh head.

    `base` is a folder, a hub id, or a packaged model.

    Raises:
        ConfigError: When the base model is not there, or cannot be used.
        TrainingError: When such a head cannot be trained here.
    """
    require_trainable(head)
    source = resolve_base(base)
    encoder = load_encoder(source)
    check_reading(encoder, what=f"The base model {base!r}", limit=position_limit(encoder))
    model = TextModel(encoder, head=head, pooling=pooling, dropout=dropout)
    folder = local_folder(source)
    return Checkpoint(
        model,
        load_tokenizer(source, words=head.view == "words"),
        base,
        None if folder is None else base_fingerprint(folder),
    )


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a model into a folder that is made if need be.

    Raises:
        StorageError: When the disk is full or may not be written.
    """
    from safetensors.torch import save_file

    model = checkpoint.model
    with storage_border("write the checkpoint", folder):
        folder.mkdir(parents=True, exist_ok=True)
        has_addition = save_encoder(model.encoder, folder)
        save_tokenizer(checkpoint.tokenizer, folder / "tokenizer")
        head = {"weight": model.head.weight.detach(), "bias": model.head.bias.detach()}
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in head.items()},
            folder / "head.safetensors",
        )
        write_json_atomic(
            folder / "checkpoint.json",
            {
                "format_version": WITH_ADDITION if has_addition else FORMAT_VERSION,
                "labels": list(model.labels.names),
                "view": model.view,
                "loss": model.loss,
                "pooling": model.pooling,
                "dropout": model.dropout.p,
                "base": checkpoint.base,
                "base_sha256": checkpoint.base_sha256,
            },
        )


def load_checkpoint(folder: Path, *, attention: str = "sdpa") -> Checkpoint:
    """Read a model that `save_checkpoint` wrote.

    Raises:
        RegistryError: When a file is missing, damaged, or of another format version.
        ConfigError: When the transformers that is here would read it wrongly, or lacks what the
            training method needs.
        TrainingError: When it has a head that is not known here.
    """
    from safetensors.torch import load_file

    with _reading(folder / "checkpoint.json") as path:
        facts = read_json(path)
    if facts.get("format_version") not in (FORMAT_VERSION, WITH_ADDITION):
        raise RegistryError(
            f"The checkpoint has format version {facts.get('format_version')}, "
            f"not {FORMAT_VERSION} or {WITH_ADDITION}.",
            where=str(folder),
            hint="Use the contlearn that wrote it, or begin again from the base model.",
        )
    with _reading(folder / "checkpoint.json"):
        head = _head(facts)
        pooling: Pooling = "first" if facts["pooling"] == "first" else "mean"
        dropout, base = float(facts["dropout"]), str(facts["base"])
    check_saved_by(folder / "encoder", what="The encoder of the checkpoint", where=str(folder))
    with _reading(folder / "encoder") as path:
        encoder = load_encoder(str(path), attention=attention, what="The encoder")
    encoder = load_addition(encoder, folder)
    model = TextModel(encoder, head=head, pooling=pooling, dropout=dropout)
    with _reading(folder / "head.safetensors") as path:
        tensors = load_file(path)
        weight, bias = tensors["weight"], tensors["bias"]
    if weight.shape != model.head.weight.shape or bias.shape != model.head.bias.shape:
        raise RegistryError(
            f"The head has {tuple(weight.shape)} weights for {len(head.outputs)} labels.",
            where=str(folder),
            hint=DAMAGED,
        )
    model.head.set_rows(weight, bias)
    with _reading(folder / "tokenizer") as path:
        tokenizer = load_tokenizer(str(path), words=model.view == "words", what="The tokenizer")
    return Checkpoint(model.to(torch.float32), tokenizer, base, facts.get("base_sha256"))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Say of what goes wrong with a part of a checkpoint that the version's files are damaged."""
    from safetensors import SafetensorError

    try:
        yield path
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    except (ConfigError, StorageError) as error:
        raise _damaged(path, error.what) from error


def _damaged(path: Path, why: str) -> RegistryError:
    return RegistryError(
        f"The checkpoint's {path.name} cannot be read: {why}", where=str(path), hint=DAMAGED
    )


def require_trainable(head: HeadSpec) -> None:
    """Refuse a head that there are no modules for.

    Raises:
        TrainingError: When its name, its view or its loss is none of those that can be trained.
    """
    problems = head_problems(head)
    if problems:
        raise TrainingError(
            " ".join(problems),
            where=f"the head {head.name!r} of the task",
            hint="Choose another task.",
        )


def _head(facts: Mapping[str, Any]) -> HeadSpec:
    view: Any = facts["view"] if "view" in facts else _EARLIER[facts["per"]]
    head = HeadSpec(
        name="logits",
        outputs=LabelSpace(tuple(facts["labels"])),
        view=view,
        loss=facts.get("loss", "softmax"),
    )
    require_trainable(head)
    return head
