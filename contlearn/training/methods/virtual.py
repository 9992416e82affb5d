"""An encoder while its prompt or prefix is trained: peft makes the vectors, we show them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from contlearn.modeling.additions import Prefixed, Prompted, run_prefixed, run_prompted

__all__ = ["VirtualTokens"]


class VirtualTokens(nn.Module):
    """Shows an encoder the vectors that peft's prompt encoder makes.

    Args:
        parametrised: What `get_peft_model` made of the encoder.
        base: The encoder, frozen.
        kind: "prompt" or "prefix".
        kept: The vectors of the champion; training begins exactly there.
    Shape: kept (P, D) or (P, layers · 2 · D).
    """

    def __init__(self, parametrised: Any, base: Any, *, kind: str, kept: Tensor | None) -> None:
        super().__init__()
        self.base = base
        self.kind = kind
        self.maker = next(iter(parametrised.prompt_encoder.values()))
        tokens = next(iter(parametrised.prompt_tokens.values()))
        self.register_buffer("positions", tokens, persistent=False)
        self.maker.requires_grad_(True)
        offset = torch.zeros(())
        if kept is not None:
            self.maker.to(kept.device)
            with torch.no_grad():
                offset = kept - self._made()
        self.register_buffer("offset", offset, persistent=False)

    @property
    def config(self) -> Any:
        """The configuration of the encoder."""
        return self.base.config

    def _made(self) -> Tensor:
        positions: Any = self.positions
        found: Tensor = self.maker(positions.to(self.maker.embedding.weight.device).unsqueeze(0))[0]
        return found

    def vectors(self) -> Tensor:
        """Give the vectors as they are now. Shape: (P, D) or (P, layers · 2 · D)."""
        offset: Any = self.offset
        found: Tensor = self._made() + offset
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Encode texts."""
        run = run_prefixed if self.kind == "prefix" else run_prompted
        return run(self.base, self.vectors(), input_ids, attention_mask)

    @torch.no_grad()
    def check(self) -> None:
        """Encode one piece, to see that this kind of encoder takes such vectors.

        Raises:
            ValueError: When the vectors change nothing.
        """
        device = next(self.base.parameters()).device
        self.maker.to(device)
        one = torch.ones((1, 2), dtype=torch.long, device=device)
        was = self.training
        self.eval()
        with_them = self(one, one).last_hidden_state
        without = self.base(input_ids=one, attention_mask=one).last_hidden_state
        self.train(was)
        if with_them.shape != without.shape or torch.equal(with_them, without):
            raise ValueError("it passes over them")

    def finished(self) -> Prompted | Prefixed:
        """Give the encoder with the vectors themselves."""
        vectors = self.vectors().detach()
        return (Prefixed if self.kind == "prefix" else Prompted)(self.base, vectors)
