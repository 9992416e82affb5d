"""Tokenising texts only as far as a model reads them, with the very pieces of the whole text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from contlearn.interfaces import Tokenizer

__all__ = ["encode_texts", "encode_words"]

InputT = TypeVar("InputT", str, Sequence[str])

# A text is cut between a sign and a blank, where every tokenizer parts words. Pieces that a
# tokenizer without words of its own chooses by what follows lie within so many of the cut.
_CUT: Final = re.compile(r"\S(?=[ \n\t])")
_MARGIN_TOKENS: Final = 64
# Where more characters make fewer tokens than are read, more of the text is taken.
_CHARACTERS_PER_TOKEN: Final = 8
_LONGER: Final = 4


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[Any]:
    """Tokenise texts; of what is not read there are some pieces, or none.

    Args:
        tokenizer: Neither cuts nor pads.
        texts: As they came.
        max_tokens: As many are read; an encoding that has more was cut, or will be.
    """
    return _encode(tokenizer.encode_batch, texts, max_tokens, _begin_text, _CHARACTERS_PER_TOKEN)


def encode_words(
    tokenizer: Tokenizer, texts: Sequence[Sequence[str]], max_tokens: int
) -> list[Any]:
    """Tokenise lists of words, each word for itself; see `encode_texts`."""

    def encode(part: list[Sequence[str]]) -> list[Any]:
        return tokenizer.encode_batch(part, is_pretokenized=True)

    return _encode(encode, texts, max_tokens, lambda words, count: words[:count], 1)


def _encode(
    encode: Callable[[list[InputT]], list[Any]],
    inputs: Sequence[InputT],
    max_tokens: int,
    begin: Callable[[InputT, int], InputT],
    per_token: int,
) -> list[Any]:
    needed = max_tokens + _MARGIN_TOKENS
    size = needed * per_token
    begun = [begin(item, size) if len(item) > size else item for item in inputs]
    found = encode(begun)
    while True:
        short = [
            place
            for place, item in enumerate(inputs)
            if len(begun[place]) < len(item) and len(found[place].ids) < needed
        ]
        if not short:
            return found
        size *= _LONGER
        for place in short:
            begun[place] = begin(inputs[place], size)
        for place, item in zip(short, encode([begun[place] for place in short]), strict=True):
            found[place] = item


def _begin_text(text: str, characters: int) -> str:
    cut = _CUT.search(text, characters)
    return text if cut is None else text[: cut.end()]
