"""What a tokenizer's vocabulary does not hold: its own unknown piece, whatever it is called."""

from __future__ import annotations

from typing import Any, Final

from contlearn.interfaces import Tokenizer

__all__ = ["unknown_id", "unknown_piece"]

# The last code point: it stands for no character, so no vocabulary holds it.
_NO_CHARACTER: Final = "\U0010ffff"


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Give the id of the piece that stands for what the vocabulary does not hold.

    It is asked of the model inside the tokenizer: [UNK], <unk> and [unk] are only names, and a
    tokenizer may list one of them that it never gives.

    Returns:
        None for a tokenizer that cannot have unknown pieces, as those that spell bytes.
    """
    model: Any = tokenizer.model
    if hasattr(model, "unk_token"):
        name = model.unk_token
        if not name or _spells_bytes(tokenizer):
            return None
        return tokenizer.token_to_id(name)
    # A Unigram model does not show its unknown piece, but gives it. Without one it has an error.
    try:
        found = model.tokenize(_NO_CHARACTER)
    except Exception:  # tokenizers raises bare Exception
        return None
    # One that falls back to bytes gives four pieces, each of them known.
    return int(found[0].id) if len(found) == 1 else None


def unknown_piece(tokenizer: Tokenizer) -> str | None:
    """Name the piece that stands for what the vocabulary does not hold; None as `unknown_id`."""
    number = unknown_id(tokenizer)
    return None if number is None else tokenizer.id_to_token(number)


def _spells_bytes(tokenizer: Tokenizer) -> bool:
    """Say whether each byte is a piece, so that nothing is unknown whatever the model could say."""
    model: Any = tokenizer.model
    if getattr(model, "byte_fallback", False):
        return all(tokenizer.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
    parts: Any = tokenizer
    if not any("ByteLevel" in repr(getattr(parts, n, None)) for n in _BEFORE_THE_MODEL):
        return False
    from tokenizers.pre_tokenizers import ByteLevel

    return all(tokenizer.token_to_id(letter) is not None for letter in ByteLevel.alphabet())


_BEFORE_THE_MODEL: Final = ("normalizer", "pre_tokenizer")
