"""What the two majors of transformers that contlearn runs on do differently, made alike.

A workspace made under one goes on under the other: what one of them writes, the other reads and
means the same by it. Version 5 builds most tokenizers anew from their vocabulary and passes over
what else tokenizer.json says; it names tokenizers and moves numbers as version 4 does not know.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from contlearn.modeling.base_check import older_keys
from contlearn.workspace import write_json_atomic

__all__ = [
    "follow_tokenizer_file",
    "no_progress_bars",
    "save_tokenizer",
    "write_older_keys",
]

_TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
# Version 5's name for tokenizers without a class of their own, and the name both know.
_NAMES: Final = {"TokenizersBackend": "PreTrainedTokenizerFast"}
# What tokenizer_config.json calls the switches of BERT's normaliser; there they hold before those
# in tokenizer.json, and version 4 takes these where there is none.
_SWITCHES: Final[Mapping[str, tuple[str, bool | None]]] = {
    "lowercase": ("do_lower_case", True),
    "strip_accents": ("strip_accents", None),
    "handle_chinese_chars": ("tokenize_chinese_chars", True),
}


def follow_tokenizer_file(tokenizer: Any, folder: Path | None) -> None:
    """Let a tokenizer split texts as its tokenizer.json says, whatever version has loaded it.

    Args:
        tokenizer: A fast tokenizer of transformers, changed in place.
        folder: Where it was loaded from; None or one without the file leaves it as it is.
    """
    path = None if folder is None else folder / _TOKENIZER
    # Version 4, and classes of version 5 that add nothing of their own, read the file themselves.
    if path is None or not path.is_file() or not _is_built_anew(tokenizer):
        return
    from tokenizers import Tokenizer

    facts = json.loads(path.read_bytes())
    _set_switches(facts, path.with_name(_TOKENIZER_CONFIG))
    split = facts.get("pre_tokenizer") or {}
    if "add_prefix_space" in split:
        split["add_prefix_space"] = bool(tokenizer.add_prefix_space)
    backend = Tokenizer.from_str(json.dumps(facts))
    built = tokenizer.backend_tokenizer
    # Tokens that the configuration names beside the file's.
    added = [token for _, token in sorted(built.get_added_tokens_decoder().items())]
    for token in added:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    backend.encode_special_tokens = built.encode_special_tokens
    tokenizer._tokenizer = backend  # noqa: SLF001  # there is no other way to give it one


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer in words that both versions read."""
    tokenizer.save_pretrained(folder)
    path = folder / _TOKENIZER_CONFIG
    facts = _read(path)
    changed = dict(facts)
    name = facts.get("tokenizer_class")
    if name in _NAMES:
        changed["tokenizer_class"] = _NAMES[name]
    if isinstance(facts.get("extra_special_tokens"), list):
        changed["additional_special_tokens"] = changed.pop("extra_special_tokens")
    if changed != facts:
        write_json_atomic(path, changed)


def write_older_keys(folder: Path) -> None:
    """Write numbers that version 5 has moved in config.json at their old places too."""
    path = folder / "config.json"
    facts = _read(path)
    found = {key: value for key, value in older_keys(facts).items() if key not in facts}
    if found:
        write_json_atomic(path, {**facts, **found})


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep version 5 from drawing a bar for every model it loads or saves."""
    from transformers.utils import logging

    control: Any = logging  # partly untyped
    if not control.is_progress_bar_enabled():
        yield
        return
    control.disable_progress_bar()
    try:
        yield
    finally:
        control.enable_progress_bar()


def _is_built_anew(tokenizer: Any) -> bool:
    kind = type(tokenizer)
    return hasattr(kind, "convert_to_native_format") and "__init__" in vars(kind)


def _set_switches(facts: dict[str, Any], config: Path) -> None:
    normalizer = facts.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        said = _read(config)
        for key, (name, default) in _SWITCHES.items():
            normalizer[key] = said.get(name, default)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    return value if isinstance(value, dict) else {}
