"""Dropout that costs a CPU little.

On processors that are not Intel's, torch draws a number of 64 bits for each value that may be
dropped: 8 % of a step's time with a small BERT on two AMD cores. Sixteen bits decide as well, to
within 1/131072 of the probability that was asked for. They come from torch's own generator, so a
training that was cut off goes on as it would have.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["cheap_dropout", "dropping_alike"]

_STEPS: Final = 1 << 16
_WORDS: Final = 4  # of 16 bits in one of 64
_IS_CHEAP: Final = ContextVar("_IS_CHEAP", default=False)


@contextlib.contextmanager
def cheap_dropout(*, wanted: bool) -> Iterator[None]:
    """Let whatever this thread drops on a CPU be drawn cheaply while the block runs.

    `dropout` and `scaled_dot_product_attention` of torch.nn.functional are answered here, whichever
    module calls them; on other devices, and when nothing is dropped, they are torch's own.
    """
    before = _IS_CHEAP.set(wanted)
    try:
        with _CheapDropout() if wanted else contextlib.nullcontext():
            yield
    finally:
        _IS_CHEAP.reset(before)


def dropping_alike() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Let what a backward pass computes again drop the same values as the first time.

    For `context_fn` of torch.utils.checkpoint: a backward pass runs where the mode is off, as
    `Tensor.backward` is itself a call that it is asked about; torch's own dropout would then drop
    other values than the loss was computed from, and the gradients would be wrong.
    """
    again = _CheapDropout() if _IS_CHEAP.get() else contextlib.nullcontext()
    return contextlib.nullcontext(), again


class _CheapDropout(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kind = _KINDS.get(func)
        answer = None if kind is None else kind(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if answer is None else answer


def _dropout(
    input: Tensor,  # named as torch names it
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Tensor | None:
    """Drop with probability p; None where torch's own must answer."""
    if not training or inplace or not _is_drawn_here(input, p):
        return None
    return input * _scales(input, p)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Attend as torch does when something is dropped; None where torch's own must answer.

    Shape: query (…, L, E), key (…, S, E), value (…, S, V); result (…, L, V).
    """
    if is_causal or enable_gqa or not _is_drawn_here(query, dropout_p):
        return None
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)  # (…, L, S)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    shares = scores.softmax(dim=-1)
    return (shares * _scales(shares, dropout_p)).to(value.dtype) @ value


_KINDS: Final[Mapping[Callable[..., Any], Callable[..., Tensor | None]]] = {
    nn.functional.dropout: _dropout,
    nn.functional.scaled_dot_product_attention: _attention,
}


def _is_drawn_here(values: Tensor, p: float) -> bool:
    is_known = values.device.type == "cpu" and values.is_floating_point()
    return is_known and 0 < round(p * _STEPS) < _STEPS


def _scales(values: Tensor, p: float) -> Tensor:
    """Draw what each value is multiplied with: 0, or what keeps the mean. Shape: of the values."""
    count, dropped = values.numel(), round(p * _STEPS)
    words = torch.empty(-(-count // _WORDS), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)  # all 64 bits
    bits = words.view(torch.int16)[:count].view(values.shape)
    kept = bits >= dropped - _STEPS // 2
    return kept.to(values.dtype).mul_(_STEPS / (_STEPS - dropped))
