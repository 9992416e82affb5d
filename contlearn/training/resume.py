"""Training state on disk: what a killed fit needs to go on as if nothing had happened.

```
<folder>/step-00000040/   one complete state; a new one is renamed into place, then the old removed
  weights.safetensors     the parameters that are trained, and buffers that change
  optimizer.safetensors   moments, by position of the parameter
  random.safetensors      torch's generators
  plugins.safetensors     what plugins gathered so far, if any did
  state.json              step, epoch, history, numpy's and Python's generators, the epoch's plan
<folder>/best.safetensors the best weights so far
```
Safetensors and JSON only; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from contlearn.workspace import read_json, storage_border, write_json_atomic

__all__ = [
    "TrainingState",
    "latest_state",
    "load_tensors",
    "save_state",
    "save_tensors",
    "trained_tensors",
]

FORMAT_VERSION: Final = 1
_STEP: Final = re.compile(r"step-(\d{8})")


class TrainingState:
    """A state that was found on disk: its facts, and how to put it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = read_json(folder / "state.json")

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put weights and optimizer back where they were."""
        put_back(model, load_tensors(self.folder / "weights.safetensors"))
        _restore_optimizer(optimizer, load_tensors(self.folder / "optimizer.safetensors"))

    def plugins(self) -> dict[str, Tensor]:
        """Give what plugins gathered."""
        path = self.folder / "plugins.safetensors"
        return load_tensors(path) if path.is_file() else {}

    def restore_random(self) -> None:
        """Put the generators of torch, numpy and Python back where they were."""
        tensors = load_tensors(self.folder / "random.safetensors")
        torch.set_rng_state(tensors["cpu"])
        if "cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["cuda"])
        version, numbers, gauss = self.facts["python_random"]
        random.setstate((version, tuple(numbers), gauss))
        name, keys, position, has_gauss, cached = self.facts["numpy_random"]
        np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, cached))


def latest_state(folder: Path, fingerprint: str) -> TrainingState | None:
    """Find the newest complete state that belongs to this very training.

    Args:
        folder: Where `save_state` wrote.
        fingerprint: Of data, options and start; a state of another training is passed over.
    """
    if not folder.is_dir():
        return None
    for path in sorted(folder.iterdir(), reverse=True):
        if _STEP.fullmatch(path.name):
            state = TrainingState(path)
            facts = state.facts
            if facts["format_version"] == FORMAT_VERSION and facts["fingerprint"] == fingerprint:
                return state
    return None


def save_state(
    folder: Path,
    *,
    step: int,
    fingerprint: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
    is_last: bool = False,
    same_weights: Path | None = None,
    plugins: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a state under a temporary name, rename it, and remove older ones.

    Args:
        folder: Where states are.
        step: How many steps were done.
        fingerprint: Of this training.
        model: Its trained parameters are saved.
        optimizer: Its moments are saved.
        facts: What else is needed to go on, as JSON values.
        is_last: No step follows, so the optimizer need not be saved.
        same_weights: A file of this folder that holds the same parameters already.
        plugins: What plugins gathered so far.
    """
    version, numbers, gauss = random.getstate()
    keys: Any = np.random.get_state()  # plugins may use numpy's global generator
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    target = folder / f"step-{step:08d}"
    staged = folder / f".step-{step:08d}.tmp"
    with storage_border("save the state of the training", folder):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        if same_weights is None:
            save_tensors(trained_tensors(model), staged / "weights.safetensors")
        else:
            _link_or_copy(same_weights, staged / "weights.safetensors")
        moments = {} if is_last else _optimizer_tensors(optimizer)
        save_tensors(moments, staged / "optimizer.safetensors")
        save_tensors(generators, staged / "random.safetensors")
        if plugins:
            save_tensors(plugins, staged / "plugins.safetensors")
        write_json_atomic(
            staged / "state.json",
            {
                "format_version": FORMAT_VERSION,
                "fingerprint": fingerprint,
                "step": step,
                "python_random": [version, list(numbers), gauss],
                "numpy_random": [keys[0], keys[1].tolist(), *keys[2:]],
                **facts,
            },
        )
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
        for path in folder.iterdir():
            if path != target and _STEP.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; the first is only ever replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give the parameters that are trained; the rest is in the checkpoint it began from."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def put_back(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the parameters of the same name."""
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            named[name].copy_(tensor)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, complete or not at all."""
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)
        temporary.rename(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors that `save_tensors` wrote."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = load_file(path)
    return found


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for position, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{position}.{key}"] = torch.as_tensor(value)
    return tensors


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    # Step counters stay where the optimizer keeps them: on the CPU, unless its kernel reads them.
    is_fused = bool(optimizer.defaults.get("fused"))
    for name, value in tensors.items():
        position, key = name.split(".", 1)
        parameter = parameters[int(position)]
        stays = value.dim() == 0 and not is_fused
        optimizer.state[parameter][key] = (
            value.clone() if stays else value.clone().to(parameter.device)
        )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
