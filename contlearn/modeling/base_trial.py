"""Whether an encoder does what is asked of one: it sees both ways, and padding changes nothing.

Asked of the loaded model itself, so that families nobody has tried yet are judged as well.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from contlearn.errors import ConfigError
from contlearn.modeling.base_check import unfit
from contlearn.wording import first_line

__all__ = ["check_reading", "plain_ids"]

_PIECES: Final = 12
# Rounding may differ between a text alone and in a batch, by such a share of the largest number.
_PADDING_SHARE: Final = 1e-3
_NOTHING: Final = 1e-6


def check_reading(encoder: nn.Module, *, what: str, limit: int | None = None) -> None:
    """Let an encoder read a short text alone, with another end, and beside a longer one.

    Args:
        encoder: As it was loaded.
        what: What the model is called at the head of the message.
        limit: How many pieces it can read; None for any number.
    Raises:
        ConfigError: When it needs more than ids and mask, gives no vector for each piece, does not
            see what comes later, or reads padding.
    """
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            _read(encoder, what, _PIECES if limit is None else min(_PIECES, limit // 2))
    finally:
        encoder.train(training)


def _read(encoder: Any, what: str, pieces: int) -> None:
    ids = plain_ids(encoder.config, 2 * pieces)
    text, mask = ids[None, :pieces], torch.ones(1, pieces, dtype=torch.long)
    other = text.clone()
    other[0, -1] = ids[-1]
    try:
        alone, changed = _states(encoder, text, mask), _states(encoder, other, mask)
        both = torch.stack([ids, ids])
        both[0, pieces:] = _padding(encoder.config)
        seen = torch.ones_like(both)
        seen[0, pieces:] = 0
        beside = _states(encoder, both, seen)[:1, :pieces]
    except Exception as error:  # whatever a model says that wants something else
        why = first_line(error)
        raise _unfit(encoder, what, f"it cannot be given ids and mask alone ({why})") from error
    wanted = (1, pieces, int(encoder.config.hidden_size))
    if tuple(alone.shape) != wanted:
        raise _unfit(encoder, what, f"it gives {tuple(alone.shape)} for {pieces} pieces")
    largest = float(alone.abs().max())
    half = pieces // 2
    if float((alone - changed)[:, :half].abs().max()) <= _NOTHING * largest:
        raise _unfit(encoder, what, "its pieces do not see what comes after them, as a decoder's")
    if not float((alone - beside).abs().max()) <= _PADDING_SHARE * max(1.0, largest):
        raise _unfit(
            encoder,
            what,
            "it reads the padding behind a text, so an answer would depend on the texts beside it",
        )


def plain_ids(config: Any, count: int) -> Tensor:
    """Give ids of a vocabulary that stand for no special token. Shape: (count,)."""
    special = {value for key, value in vars(config).items() if key.endswith("token_id")}
    size = int(config.vocab_size)
    plain = [i for i in range(min(size, 4 * count + len(special))) if i not in special]
    return torch.tensor([plain[(i + len(plain) // 2) % len(plain)] for i in range(count)])


def _states(encoder: Any, ids: Tensor, mask: Tensor) -> Tensor:
    states: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return states


def _padding(config: Any) -> int:
    found = getattr(config, "pad_token_id", None)
    return 0 if found is None else int(found)


def _unfit(encoder: Any, what: str, reason: str) -> ConfigError:
    return unfit(str(encoder.config.model_type), reason, what=what)
