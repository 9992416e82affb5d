"""What a base model's files say before it is loaded: who saved it, and whether we read it right.

Nothing heavy is loaded, so that everybody may look before anything runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.errors import ConfigError
from contlearn.packages import transformers_version

__all__ = [
    "WHERE",
    "base_fingerprint",
    "check_family",
    "check_saved_by",
    "older_keys",
    "read_config",
    "read_limit",
    "unfit",
]

_CONFIG: Final = "config.json"
WHERE: Final = "model.base in contlearn.toml"
# Files that decide what a base model answers.
_DECISIVE: Final = ("config.json", "model*.safetensors", "tokenizer.json")
# transformers 5 gathered what it knows of rotary positions in `rope_parameters`, one set for all
# layers or one a kind of layer. Before, each number had a key of its own; these are the names it
# had in one model or another. A version that does not know the new key takes its own default.
_MOVED_IN: Final = 5
_THETAS: Final = {
    "full_attention": ("rope_theta", "global_rope_theta", "rotary_emb_base"),
    "sliding_attention": ("local_rope_theta", "rope_local_base_freq"),
}
_FRACTIONS: Final = ("partial_rotary_factor", "rotary_pct")
# What the older version takes where a configuration has no such key.
_DEFAULTS: Final[dict[str, dict[str, float]]] = {
    "modernbert": {"full_attention": 160_000.0, "sliding_attention": 10_000.0},
    "modernbert-decoder": {"full_attention": 160_000.0, "sliding_attention": 10_000.0},
}
# Encoders with a table of places, and those that count behind the padding's.
_COUNT_FROM_0: Final = ("albert", "bert", "distilbert", "electra")
_COUNT_FROM_PADDING: Final = ("camembert", "mpnet", "roberta", "xlm-roberta")
# Where it finds them in encoders that have both kinds of layers.
_OLD_NAMES: Final = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
# transformers 5 has no relative positions in encoders that had them: it leaves their weights out.
_POSITIONS: Final = "position_embedding_type"
_EVERY: Final = "global_attn_every_n_layers"
_EVERY_DEFAULT: Final = 3
# Families that cannot go, each with its reason; docs/encoders.md tells how they were tried.
_FORWARD: Final = (
    "it reads a text from left to right, so no piece sees what comes after it, and an answer from "
    "all pieces would hang on a part of the text only"
)
_TRANSLATES: Final = "it turns one text into another by an encoder and a decoder"
_PADDING: Final = (
    "its {part} read the padding behind a text, so an answer would depend on the texts beside it"
)
_UNFIT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("biogpt", "bitnet", "bloom", "codegen", "ctrl", "falcon", "gemma", "gemma2", "gpt2",
         "gpt_neo", "gpt_neox", "gptj", "llama", "mamba", "mamba2", "mistral", "mixtral",
         "modernbert-decoder", "mpt", "olmo", "openai-gpt", "opt", "phi", "phi3", "qwen2", "qwen3",
         "rwkv", "stablelm", "starcoder2", "xglm"),
        _FORWARD,
    ),
    **dict.fromkeys(
        ("bart", "led", "m2m_100", "marian", "mbart", "mt5", "pegasus", "t5", "umt5"), _TRANSLATES
    ),
    "bros": "it needs the place of every word on its page beside the text",
    "canine": "it reads characters in windows, has no tokenizer.json, and takes padding for text",
    "convbert": _PADDING.format(part="convolutions"),
    "funnel": _PADDING.format(part="pooling layers"),
    "fnet": "it mixes all places with each other and cannot leave padding out",
    "longformer": "its attention by windows cannot be written as a graph for texts of any length",
    "mra": "its attention needs kernels of its own, and without them no piece sees another",
    "nystromformer": _PADDING.format(part="landmarks of attention"),
    "perceiver": "it reads bytes, has no tokenizer.json, and gives no vector for each piece",
    "reformer": "its hashed attention is trained on texts of one length only",
    "tapas": "it reads tables, and cannot be written as an ONNX graph",
    "xmod": "it takes other layers for every language, chosen text by text, which no graph does",
    "yoso": _PADDING.format(part="samples of attention"),
}  # fmt: skip


def check_family(config: Mapping[str, Any], *, what: str) -> None:
    """Refuse, by its name, a family of models that cannot be trained, exported or served.

    Args:
        config: Of the model, as in its config.json.
        what: What the model is called at the head of the message.
    Raises:
        ConfigError: With the reason.
    """
    kind = str(config.get("model_type"))
    reason = _UNFIT.get(kind)
    if reason is None and config.get("is_encoder_decoder"):
        reason = _TRANSLATES
    if reason is None and config.get("is_decoder"):
        reason = _FORWARD
    if reason is not None:
        raise unfit(kind, reason, what=what)


def unfit(family: str, reason: str, *, what: str) -> ConfigError:
    """Say of a model why it cannot be used."""
    return ConfigError(
        f"{what} cannot be used: it is of the family {family!r}, and {reason}.",
        where=WHERE,
        hint="Choose an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT; docs/encoders.md "
        "lists the families that were tried.",
    )


def check_saved_by(
    folder: Path, *, what: str | None = None, where: str = WHERE, installed: str | None = None
) -> tuple[str, ...]:
    """Check that this transformers reads a model as the one that saved it meant it.

    Args:
        folder: Holds config.json.
        what: What the model is called at the head of messages; by its folder if left out.
        where: The place an error names.
        installed: The version that reads; the one that is here if left out.
    Returns:
        What is to be said: that a newer major version has saved it.
    Raises:
        ConfigError: When keys moved that this version does not look for, with other values than
            it would take, or it has given up what the model is made of: it would load without a
            word, and answer wrongly.
    """
    config = read_config(folder)
    here = installed or transformers_version()
    if here is None or not config:
        return ()
    saved = str(config.get("transformers_version") or "")
    what = what or f"The base model {str(folder)!r}"
    moved = list(_moved(config)) if _major(here) < _MOVED_IN else []
    if moved:
        by = f", saved by transformers {saved}" if saved else ""
        raise ConfigError(
            f"{what}{by}, would be read wrongly by transformers {here}: {'; '.join(moved)}.",
            where=f"{where} ({folder / _CONFIG})",
            hint="Write the keys that are named into its config.json, or save it again with "
            f"transformers {_major(here)}, or choose another base model.",
        )
    positions = str(config.get(_POSITIONS) or "")
    if _major(here) >= _MOVED_IN and positions.startswith("relative_key"):
        raise ConfigError(
            f"{what} has relative positions ({_POSITIONS} = {positions!r}), which transformers "
            f"{here} has given up: it would leave their weights out.",
            where=f"{where} ({folder / _CONFIG})",
            hint="Use an environment with transformers 4.57 (pip install 'contlearn[train]'), or "
            "choose another base model.",
        )
    if saved and _major(saved) > _major(here):
        note = (
            f"{what} was saved by transformers {saved}, and {here} reads it here. None of the keys "
            "that are known to have moved is in its config.json with another value; compare its "
            "answers with those of the newer version before you rely on it."
        )
        return (note,)
    return ()


def older_keys(config: Mapping[str, Any]) -> dict[str, float]:
    """Give the numbers in `rope_parameters` by the names that versions before 5 look for."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return {}
    if config.get("model_type") in _DEFAULTS:
        found = {
            name: (rope.get(kind) or {}).get("rope_theta") for kind, name in _OLD_NAMES.items()
        }
    else:
        found = {name: rope.get(name) for name in ("rope_theta", "partial_rotary_factor")}
    return {name: float(value) for name, value in found.items() if value is not None}


def base_fingerprint(folder: Path) -> str | None:
    """Identify a base model by its files, wherever they lie; None where there are no weights.

    Returns:
        A SHA-256 over configuration, weights and tokenizer.
    """
    digest, weights = hashlib.sha256(), 0
    for pattern in _DECISIVE:
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            weights += path.suffix == ".safetensors"
            digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest() if weights else None


def _moved(config: Mapping[str, Any]) -> Iterator[str]:
    """Say which values an older version would pass over, and what it would take instead."""
    kind = str(config.get("model_type"))
    rope = config.get("rope_parameters")
    if isinstance(rope, Mapping):
        per_kind = {k: v for k, v in rope.items() if isinstance(v, Mapping)}
        for layers, values in (per_kind or {"full_attention": rope}).items():
            default = _DEFAULTS.get(kind, {}).get(layers)
            names = _THETAS.get(layers, _THETAS["full_attention"])
            yield from _differs(config, values, "rope_theta", names, default)
            yield from _differs(config, values, "partial_rotary_factor", _FRACTIONS, 1.0)
            rope_type = values.get("rope_type", "default")
            if rope_type != "default" and not config.get("rope_scaling"):
                yield f"rope_parameters has rope_type {rope_type!r}, and it looks for rope_scaling"
    layers_listed = config.get("layer_types")
    if kind in _DEFAULTS and isinstance(layers_listed, list):
        every = int(config.get(_EVERY) or _EVERY_DEFAULT)
        expected = [
            "sliding_attention" if place % every else "full_attention"
            for place in range(len(layers_listed))
        ]
        if layers_listed != expected:
            yield f"layer_types is not what {_EVERY} = {every} gives, which it looks for"


def _differs(
    config: Mapping[str, Any],
    values: Mapping[str, Any],
    key: str,
    old: tuple[str, ...],
    default: float | None,
) -> Iterator[str]:
    """Compare a moved number with what an older version finds, or takes where it finds nothing."""
    if values.get(key) is None:
        return
    found = [float(config[name]) for name in old if isinstance(config.get(name), int | float)]
    taken = found[0] if found else default
    if taken is None or taken != float(values[key]):
        instead = "its own default" if taken is None else f"{taken:g}"
        yield (
            f"{key} = {float(values[key]):g} stands in rope_parameters, and it looks for "
            f"{' or '.join(old)} and takes {instead}"
        )


def read_limit(folder: Path) -> int | None:
    """Give how many pieces a base model can read, where its config.json says it for sure.

    Only of kinds whose places are a table: of others the number is no limit.
    """
    config = read_config(folder)
    kind, places = config.get("model_type"), config.get("max_position_embeddings")
    if not isinstance(places, int) or kind not in (*_COUNT_FROM_0, *_COUNT_FROM_PADDING):
        return None
    padding = config.get("pad_token_id")
    before = (padding if isinstance(padding, int) else 1) + 1
    return places - before if kind in _COUNT_FROM_PADDING else places


def read_config(folder: Path) -> Mapping[str, Any]:
    """Read a model's config.json; nothing where there is none that can be read."""
    try:
        value = json.loads((folder / _CONFIG).read_bytes())
    except (OSError, ValueError):
        return {}  # loading says what is wrong with it
    return value if isinstance(value, dict) else {}


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
