"""Guessing masked pieces beside the lesson proper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from contlearn.modeling.additions import inner_encoder
from contlearn.modeling.packing import IDS, MASK
from contlearn.training.avalanche.bridge import SupervisedPlugin

__all__ = ["MaskedPieces", "read_texts"]

_IGNORED: Final = -100
# Of the pieces chosen, so many become the mask, and so many another piece.
_MASK_SHARE: Final = 0.8
_OTHER_SHARE: Final = 0.1


def read_texts(folder: Path | None, *, limit: int) -> list[str]:
    """Read unlabelled texts: each line of .txt files, the field "text" of .jsonl files.

    What is no text is passed over: these files teach words, not labels.
    """
    found: list[str] = []
    if folder is None or not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".txt", ".jsonl"):
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                text = _text_of(line) if path.suffix == ".jsonl" else line.strip()
                if text:
                    found.append(text)
                if len(found) >= limit:
                    return found
    return found


def _text_of(line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return ""
    value = row.get("text") if isinstance(row, dict) else row
    return value.strip() if isinstance(value, str) else ""


class MaskedHead(nn.Module):
    """Turns states into scores of all pieces; the last matrix is the encoder's embeddings."""

    def __init__(self, width: int, pieces: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(pieces))
        with torch.no_grad():
            self.dense.weight.copy_(torch.eye(width))
            self.dense.bias.zero_()

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """Score pieces. Shape: states (n, D), embeddings (V, E) with E = D; result (n, V)."""
        shaped: Tensor = self.norm(nn.functional.gelu(self.dense(states)))
        return shaped @ embeddings.T + self.bias


class MaskedPieces(SupervisedPlugin):  # type: ignore[misc]  # avalanche is untyped
    """Draws a few unlabelled texts a step, masks some pieces, and adds the loss of guessing them.

    Args:
        model: A `TextModel`.
        texts: Unlabelled texts.
        tokenizer: Of the model, with a mask piece.
        max_tokens: Longer texts are cut.
        head: The head as an earlier update left it.
        weight: Of the loss.
        batch_size: Texts a step.
        masked_share: Of the pieces.
        rate: Learning rate of the head.
    """

    def __init__(
        self,
        model: Any,
        texts: Sequence[str],
        *,
        tokenizer: Any,
        max_tokens: int,
        head: Mapping[str, Tensor] | None,
        weight: float,
        batch_size: int,
        masked_share: float,
        rate: float,
    ) -> None:
        super().__init__()
        encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        self.rows = [torch.tensor(row, dtype=torch.long) for row in encoded if len(row) > 2]
        self.special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
        self.mask, self.pad = int(tokenizer.mask_token_id), int(tokenizer.pad_token_id or 0)
        embeddings = inner_encoder(model.encoder).get_input_embeddings().weight
        device = embeddings.device
        self.head = MaskedHead(model.width, len(embeddings)).to(device)
        if head is not None and {k: v.shape for k, v in head.items()} == {
            k: v.shape for k, v in self.head.state_dict().items()
        }:
            self.head.load_state_dict(dict(head))
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=rate)
        self.weight, self.batch_size, self.masked_share = weight, batch_size, masked_share

    def before_backward(self, strategy: Any, **_: Any) -> None:
        if not self.rows:
            return
        chosen = torch.randint(len(self.rows), (self.batch_size,)).tolist()
        packed, wanted = self._masked([self.rows[i] for i in chosen])
        packed, wanted = packed.to(strategy.device), wanted.to(strategy.device)
        if not bool((wanted != _IGNORED).any()):
            return
        model = strategy.model
        states, trimmed = model.hidden(packed)
        wanted = wanted[:, : trimmed.shape[2]]
        rows = wanted != _IGNORED
        embeddings = inner_encoder(model.encoder).get_input_embeddings().weight
        scores = self.head(states[rows], embeddings)
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(scores, wanted[rows])
        strategy.loss = strategy.loss + self.weight * loss

    def after_update(self, strategy: Any, **_: Any) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_tensors(self) -> dict[str, Tensor]:
        found = {f"head/{k}": v.clone() for k, v in self.head.state_dict().items()}
        for number, parameter in enumerate(self.head.parameters()):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"moment/{number}/{key}"] = torch.as_tensor(value).clone()
        return found

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        head = {k.removeprefix("head/"): v for k, v in tensors.items() if k.startswith("head/")}
        self.head.load_state_dict(head)
        parameters = list(self.head.parameters())
        for name, value in tensors.items():
            if name.startswith("moment/"):
                _, number, key = name.split("/")
                self.optimizer.state[parameters[int(number)]][key] = value.clone()

    def _masked(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give packed inputs with masks, and the pieces to guess. Shape: (B, 2, L), (B, L)."""
        longest = max(len(row) for row in rows)
        packed = torch.zeros((len(rows), 2, longest), dtype=torch.long)
        packed[:, IDS] = self.pad
        for number, row in enumerate(rows):
            packed[number, IDS, : len(row)] = row
            packed[number, MASK, : len(row)] = 1
        ids = packed[:, IDS].clone()
        may = packed[:, MASK].bool() & ~torch.isin(ids, self.special)
        chosen = may & (torch.rand(ids.shape) < self.masked_share)
        how = torch.rand(ids.shape)
        packed[:, IDS][chosen & (how < _MASK_SHARE)] = self.mask
        other = chosen & (how >= _MASK_SHARE) & (how < _MASK_SHARE + _OTHER_SHARE)
        packed[:, IDS][other] = torch.randint(len(self.head.bias), (int(other.sum()),))
        return packed, ids.masked_fill(~chosen, _IGNORED)
