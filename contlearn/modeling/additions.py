"""What a method leaves in an encoder that cannot be merged into its weights.

A wrapper stands where the encoder stood, takes ids and mask and gives the states of the texts'
pieces: pooling, head, export and the next update see an ordinary encoder.

```
checkpoint/
  addition.json           kind and sizes
  addition.safetensors    its tensors
  encoder/                the encoder inside, as transformers writes it
```
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from contlearn.errors import ConfigError, RegistryError, StorageError
from contlearn.modeling.majors import no_progress_bars, write_older_keys
from contlearn.packages import transformers_version
from contlearn.workspace import read_json, write_json_atomic

__all__ = [
    "DAMAGED",
    "Addition",
    "Bottlenecked",
    "Prefixed",
    "Prompted",
    "addition_of",
    "inner_encoder",
    "load_addition",
    "run_prefixed",
    "run_prompted",
    "save_encoder",
    "set_inner_encoder",
]

_FACTS: Final = "addition.json"
_TENSORS: Final = "addition.safetensors"
# What to do about files of a version that cannot be read.
DAMAGED: Final = "`contlearn verify` says which files are damaged; roll back to another version."
# The one name that an adapter has inside the encoder.
ADAPTER: Final = "contlearn"


class Addition(nn.Module):
    """An encoder with something around it. `base` is the encoder inside."""

    kind: ClassVar[str] = ""
    base: nn.Module

    @property
    def config(self) -> Any:
        """The configuration of the encoder inside."""
        return self.base.config

    def facts(self) -> dict[str, Any]:
        """Give what `load_addition` needs besides tensors, as JSON values."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that are not the encoder's own."""
        raise NotImplementedError  # each kind of addition gives its own

    @property
    def places(self) -> int:
        """How many of the encoder's places stand before those of every text."""
        return 0

    def plain(self) -> Any:
        """Give the encoder inside as transformers knows it, for saving."""
        return self.base


class Prompted(Addition):
    """Trained vectors stand before the pieces of every text.

    Shape: prompt (P, D).
    Source: Lester, Al-Rfou and Constant, "The Power of Scale for Parameter-Efficient Prompt
    Tuning", 2021.
    """

    kind: ClassVar[str] = "prompt"

    def __init__(self, base: nn.Module, prompt: Tensor) -> None:
        super().__init__()
        self.base = base
        self.prompt = nn.Parameter(prompt.detach().clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Encode texts behind the prompt."""
        return run_prompted(self.base, self.prompt, input_ids, attention_mask)

    def tensors(self) -> dict[str, Tensor]:
        """Give the prompt."""
        return {"prompt": self.prompt.detach()}

    @property
    def places(self) -> int:
        """How many of the encoder's places the prompt takes."""
        return len(self.prompt)


class Prefixed(Addition):
    """Trained keys and values stand before those of every layer.

    Shape: prefix (P, layers · 2 · D).
    Source: Li and Liang, "Prefix-Tuning", 2021.
    """

    kind: ClassVar[str] = "prefix"

    def __init__(self, base: nn.Module, prefix: Tensor) -> None:
        super().__init__()
        self.base = base
        self.prefix = nn.Parameter(prefix.detach().clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Encode texts with the prefix in every layer."""
        return run_prefixed(self.base, self.prefix, input_ids, attention_mask)

    def tensors(self) -> dict[str, Tensor]:
        """Give the prefix."""
        return {"prefix": self.prefix.detach()}

    @property
    def places(self) -> int:
        """How many of the encoder's places the prefix takes: texts are counted from behind it."""
        return len(self.prefix)


class Bottlenecked(Addition):
    """Small layers behind the encoder's own, put there by the library `adapters`.

    Source: Houlsby et al., 2019; Pfeiffer et al., "AdapterHub", 2020.
    """

    kind: ClassVar[str] = "bottleneck"

    def __init__(self, base: Any, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.base = _with_adapters(base, self.settings)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Encode texts through the adapters."""
        return self.base(input_ids=input_ids, attention_mask=attention_mask)

    def facts(self) -> dict[str, Any]:
        """Give the architecture and its sizes."""
        return {"settings": self.settings}

    def tensors(self) -> dict[str, Tensor]:
        """Give the adapters' weights."""
        return {n: t for n, t in self.base.state_dict().items() if _is_adapter(n)}

    def plain(self) -> Any:
        """Build the encoder again without the adapters."""
        from contlearn.modeling.auto_classes import AutoConfig, AutoModel

        state = self.base.state_dict()
        values = {k: v for k, v in self.config.to_dict().items() if k != "adapters"}
        config = AutoConfig.for_model(**values)
        try:
            encoder = AutoModel.from_config(config, add_pooling_layer=False)
        except TypeError:  # an encoder that has no pooler to leave out
            encoder = AutoModel.from_config(config)
        # The library's modules have parameters and aliases besides.
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
        return encoder


def run_prompted(base: Any, prompt: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
    """Encode texts behind a prompt; give the states of the texts alone. Shape: prompt (P, D)."""
    vectors = base.get_input_embeddings()(input_ids)  # (B, L, D)
    shown = prompt.unsqueeze(0).expand(vectors.shape[0], -1, -1).to(vectors.dtype)
    seen = attention_mask.new_ones((attention_mask.shape[0], prompt.shape[0]))
    output = base(
        inputs_embeds=torch.cat([shown, vectors], dim=1),
        attention_mask=torch.cat([seen, attention_mask], dim=1),
    )
    output.last_hidden_state = output.last_hidden_state[:, prompt.shape[0] :]
    return output


def run_prefixed(base: Any, prefix: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
    """Encode texts with a prefix in every layer. Shape: prefix (P, layers · 2 · D)."""
    from transformers import DynamicCache

    config = base.config
    count, heads = prefix.shape[0], config.num_attention_heads
    layers, size = config.num_hidden_layers, config.hidden_size // heads
    batch = input_ids.shape[0]
    parts = prefix.view(count, layers * 2, heads, size).permute(1, 2, 0, 3)  # (2·layers, H, P, d)
    cache = DynamicCache()
    for layer in range(layers):
        key = parts[2 * layer].unsqueeze(0).expand(batch, -1, -1, -1)
        value = parts[2 * layer + 1].unsqueeze(0).expand(batch, -1, -1, -1)
        cache.update(key, value, layer)
    seen = attention_mask.new_ones((batch, count))
    # transformers 5.24 has given `past_key_values` this name.
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    return base(
        input_ids=input_ids,
        attention_mask=torch.cat([seen, attention_mask], dim=1),
        **{name: cache},
    )


def addition_of(encoder: nn.Module) -> Addition | None:
    """Give the wrapper, if the encoder has one."""
    return encoder if isinstance(encoder, Addition) else None


def inner_encoder(encoder: Any) -> Any:
    """Give the encoder itself, without a wrapper."""
    return encoder.base if isinstance(encoder, Addition) else encoder


def set_inner_encoder(model: Any, encoder: Any) -> None:
    """Replace the encoder of a text model, inside its wrapper if it has one."""
    if isinstance(model.encoder, Addition):
        model.encoder.base = encoder
    else:
        model.encoder = encoder


def save_encoder(encoder: Any, folder: Path) -> bool:
    """Write an encoder into `folder`/encoder and what stands around it beside.

    Returns:
        Whether something stands around it.
    """
    from safetensors.torch import save_file

    addition = addition_of(encoder)
    plain = encoder if addition is None else addition.plain()
    with no_progress_bars():
        plain.save_pretrained(folder / "encoder")
    write_older_keys(folder / "encoder")
    if addition is None:
        return False
    tensors = {name: t.detach().cpu().contiguous() for name, t in addition.tensors().items()}
    save_file(tensors, folder / _TENSORS)
    write_json_atomic(folder / _FACTS, {"kind": addition.kind, **addition.facts()})
    return True


def load_addition(encoder: Any, folder: Path) -> Any:
    """Put around an encoder what `save_encoder` wrote beside it; nothing if there is nothing.

    Raises:
        RegistryError: When a file is damaged or of a kind that is not known.
    """
    if not (folder / _FACTS).is_file():
        return encoder
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        facts = read_json(folder / _FACTS)
        tensors = load_file(folder / _TENSORS)
        if facts["kind"] == Prompted.kind:
            return Prompted(encoder, tensors["prompt"])
        if facts["kind"] == Prefixed.kind:
            return Prefixed(encoder, tensors["prefix"])
        if facts["kind"] == Bottlenecked.kind:
            found = Bottlenecked(encoder, facts["settings"])
            missing = found.base.load_state_dict(tensors, strict=False)
            if missing.unexpected_keys:
                raise KeyError(missing.unexpected_keys[0])
            return found
    except (OSError, KeyError, SafetensorError, StorageError) as error:
        raise RegistryError(
            f"What the training method added to the encoder cannot be read: {error}",
            where=str(folder / _TENSORS),
            hint=DAMAGED,
        ) from error
    raise RegistryError(
        f"The encoder carries an addition of the unknown kind {facts['kind']!r}.",
        where=str(folder / _FACTS),
        hint="Use the contlearn that wrote it.",
    )


def _is_adapter(name: str) -> bool:
    return f".adapters.{ADAPTER}." in f".{name}"


def _with_adapters(encoder: Any, settings: Mapping[str, Any]) -> Any:
    """Let the library put its layers into an encoder.

    Raises:
        ConfigError: When it is not installed, or does not fit the transformers that is.
        ValueError: When it does not know this kind of encoder.
    """
    try:
        import adapters
    except ImportError as error:
        raise _no_adapters(error) from error

    values = dict(settings)
    kinds = {
        "seq": adapters.SeqBnConfig,
        "double-seq": adapters.DoubleSeqBnConfig,
        "parallel": adapters.ParBnConfig,
    }
    config = kinds[values.pop("architecture")](**values)
    # It remarks on its own half-finished state.
    log = logging.getLogger("adapters")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        adapters.init(encoder)
        encoder.add_adapter(ADAPTER, config=config)
        encoder.set_active_adapters(ADAPTER)
    finally:
        log.setLevel(level)
    return encoder


def _no_adapters(error: ImportError) -> ConfigError:
    found = transformers_version() or "no transformers"
    fits = found.startswith("4.57.")
    why = f"cannot be imported ({error})" if fits else f"does not work with transformers {found}"
    return ConfigError(
        f"Bottleneck adapters need the library `adapters`, which {why}.",
        where="training.method in contlearn.toml, or the champion that was trained with them",
        hint="pip install 'adapters>=1.3,<1.4', or train with lora."
        if fits
        else "Use an environment with transformers 4.57 (pip install 'contlearn[train]'), where "
        "this workspace goes on; or train with lora, from a champion without them.",
    )
