"""torch.compile for the layers of an encoder while it is trained.

Each layer is compiled where it stands: parameters keep their names, plugins see the module they
always see, and a checkpoint knows nothing of it. Embeddings and head stay as they are, because
plugins hook into them. Layers are alike, so the compiler works once for all of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Final, Literal

import torch
from torch import nn

from contlearn.errors import ConfigError
from contlearn.modeling.additions import inner_encoder
from contlearn.modeling.text_model import TextModel

__all__ = ["compiling", "eager", "is_worth_compiling", "layers_of"]

# A compiler works for some tens of seconds, which a short training never wins back.
_LEAST_STEPS: Final = 500


@contextlib.contextmanager
def compiling(
    model: TextModel, *, wanted: Literal["auto", "on", "off"], steps: int
) -> Iterator[bool]:
    """Compile the layers of the encoder while the block runs; say whether that is done.

    Dropout draws as torch itself does, so the weights are those of an ordinary training up to
    rounding, wherever that one is not drawn in a cheaper way.

    Raises:
        ConfigError: When it is wanted and there is no compiler.
    """
    device = next(model.parameters()).device.type
    layers = layers_of(inner_encoder(model.encoder))
    if not is_worth_compiling(wanted, device=device, steps=steps) or not layers:
        yield False
        return
    for layer in layers:
        layer.compile(dynamic=True, options={"fallback_random": True})
    try:
        yield True
    finally:
        for layer in layers:
            layer._compiled_call_impl = None  # noqa: SLF001  # torch has no way back of its own


def eager() -> contextlib.AbstractContextManager[object]:
    """Run the block without compiling: what is only looked at needs no compiler."""
    stance: contextlib.AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def is_worth_compiling(
    wanted: Literal["auto", "on", "off"],
    *,
    device: str,
    steps: int,
    has_compiler: bool | None = None,
) -> bool:
    """Say whether to compile; by itself only long trainings on a GPU.

    Args:
        wanted: `training.compile`.
        device: "cpu", "cuda", …
        steps: How many steps the training has.
        has_compiler: Whether there is one; looked for if left out.
    Raises:
        ConfigError: When it is wanted and there is no compiler.
    """
    if wanted == "off" or (wanted == "auto" and (device != "cuda" or steps < _LEAST_STEPS)):
        return False
    found = _has_compiler(device) if has_compiler is None else has_compiler
    if wanted == "on" and not found:
        raise ConfigError(
            f"torch.compile finds no compiler for {device}.",
            where="training.compile in contlearn.toml",
            hint='Install a C++ compiler (for a GPU: triton), or set training.compile = "off".',
        )
    return found


def layers_of(encoder: nn.Module) -> list[nn.Module]:
    """Give the layers of an encoder: the list of modules that holds most of its weights."""

    def size(layers: nn.ModuleList) -> int:
        return sum(p.numel() for p in layers.parameters())

    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    largest = max(lists, key=size, default=None)
    return [] if largest is None else list(largest)


def _has_compiler(device: str) -> bool:
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))
