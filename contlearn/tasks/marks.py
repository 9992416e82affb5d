"""Characters that belong to a word without being a letter: marks, joiners, selectors, and the like.

Accents in decomposed text, vowel signs of Arabic, Hindi or Thai, variation selectors, skin tones,
zero-width characters and byte order marks: none of them is a word of its own.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

__all__ = ["SINGLE", "word_pattern", "words_with_marks"]

# Ends the word it belongs to: it says where words end in scripts that are written without blanks.
_ZERO_WIDTH_SPACE: Final = 0x200B
# Chinese and Japanese have no blanks between words: a character is a word of its own.
SINGLE: Final = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]")
# Marks belong to the word or sign before them, those at the beginning to the word that follows; a
# zero-width joiner holds signs together, a zero-width space ends a word.
_WORD: Final = (
    r"[%A]*(?:"
    r"(?:\w[%M]*)+(?:[%J][%M]*(?:\w[%M]*)+)*|"
    r"[^\w\s][%M]*(?:(?<=\u200d)[^\w\s][%M]*)*"
    r")(?:\u200b[%A]*)?|[%A]+"
)
_EMOJI_MODIFIERS: Final = "\U0001f3fb-\U0001f3ff"
_CATEGORIES: Final = frozenset({"Mn", "Mc", "Me", "Cf"})
# Beyond these planes there are ideographs and nothing that is assigned.
_PLANES: Final = (range(0x20000), range(0xE0000, 0xE1000))


@functools.cache
def word_pattern(template: str) -> re.Pattern[str]:
    r"""Compile a pattern of words in which marks may stand where the template says so.

    Args:
        template: A regular expression; `%A` stands for the members of a class that are any mark,
            `%M` for those that are any but the zero-width space.
    Source: Unicode Standard Annex 29, "Unicode Text Segmentation", rules WB3c and WB4.
    Example:
        >>> word_pattern(r"(?:\w[%M]*)+").findall("cafe\u0301 noir") == ["cafe\u0301", "noir"]
        True
    """
    within = _ranges(
        code
        for plane in _PLANES
        for code in plane
        if unicodedata.category(chr(code)) in _CATEGORIES and code != _ZERO_WIDTH_SPACE
    )
    within += _EMOJI_MODIFIERS
    every = within + chr(_ZERO_WIDTH_SPACE)
    return re.compile(template.replace("%M", within).replace("%A", every))


def words_with_marks(joiners: str) -> re.Pattern[str]:
    r"""Give the pattern of runs of letters and digits, and of single other signs, with their marks.

    Args:
        joiners: Signs that hold two runs together, as the members of a class.
    Example:
        >>> words_with_marks("'").findall("don't re-do") == ["don't", "re", "-", "do"]
        True
    """
    return word_pattern(_WORD.replace("%J", joiners))


def _ranges(codes: Iterable[int]) -> str:
    """Write sorted codes as the members of a class of a regular expression."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)
