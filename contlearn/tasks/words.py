"""Words, scripts and languages of a text, roughly and quickly; nothing heavy is loaded."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from typing import Final

from contlearn.tasks.marks import SINGLE, word_pattern

__all__ = ["language_of", "words_of"]

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
# The same where letters may have marks.
_MARKED: Final = r"(?:[^\W\d_][%M]*)+(?:['’](?:[^\W\d_][%M]*)+)?"
_SCRIPTS: Final = {
    "LATIN": "latin",
    "CYRILLIC": "cyrillic",
    "GREEK": "greek",
    "ARABIC": "arabic",
    "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari",
    "BENGALI": "bengali",
    "THAI": "thai",
    "HANGUL": "korean",
    "HIRAGANA": "japanese",
    "KATAKANA": "japanese",
    "CJK": "chinese",
}
# Words that are common in one of these languages and rare in the others.
_FUNCTION_WORDS: Final = {
    "english": "the and of to is that it was for you with this have are not what be my i how can",
    "german": "der die und das ist nicht ich ein eine zu den mit von für auf dem sie wie es im wir",
    "french": "le les et est une des du je vous pas pour dans que qui ce sur au avec il nous mon",
    "spanish": "el los y es una del que por para con las se lo como está mi pero su al yo más",
    "italian": "il di che è un per non sono con gli della le una mi si del questo ho come nel ma",
    "portuguese": "o os e é um uma do da que não em para com no na eu você mais como por meu",
    "dutch": "de het een en van is niet ik dat op te met voor zijn er aan je wat naar maar",
}
_LANGUAGE_OF_WORD: Final[dict[str, tuple[str, ...]]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGE_OF_WORD[_word] = (*_LANGUAGE_OF_WORD.get(_word, ()), _language)
_CHARACTERS: Final = 300


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case; Chinese and Japanese into characters.

    Accents and vowel signs stay with their letters, written in one way; zero-width characters go.

    Example:
        >>> words_of("Don't stop 42 times!")
        ["don't", 'stop', 'times']
    """
    found: list[str] = []
    for word in _find_words(text):
        if SINGLE.search(word):
            found.extend(word)
        else:
            found.append(word)
    return found


def language_of(text: str) -> str:
    """Guess the language of a Latin text, else name the script; enough to see a change of shares.

    Returns:
        A language for Latin texts that have two function words of one, else the script: `latin`,
        `cyrillic`, `chinese`, …, `other`, or `none` for a text without letters.
    Example:
        >>> [language_of(t) for t in ("Where is my parcel?", "Wo ist das Paket und die Rechnung?")]
        ['english', 'german']
        >>> language_of("我的包裹在哪里")
        'chinese'
    """
    head = text[:_CHARACTERS]
    if head.isascii():
        script = "latin" if any(map(str.isalpha, head)) else "none"
    else:
        counts = Counter(_script(character) for character in head if character.isalpha())
        if not counts:
            return "none"
        script = counts.most_common(1)[0][0]
        if script == "chinese" and counts["japanese"]:
            script = "japanese"
    if script != "latin":
        return script
    votes: dict[str, int] = {}
    for word in _find_words(head):
        for language in _LANGUAGE_OF_WORD.get(word, ()):
            votes[language] = votes.get(language, 0) + 1
    most = max(votes.values(), default=0)
    leading = [language for language, count in votes.items() if count == most]
    return leading[0] if most >= 2 and len(leading) == 1 else "latin"


def _find_words(text: str) -> list[str]:
    """Find words in lower case, composed (NFC) and without what has no width."""
    if text.isascii():
        return _WORD.findall(text.lower())
    composed = unicodedata.normalize("NFC", text.lower())
    return [
        "".join(c for c in word if unicodedata.category(c) != "Cf")
        for word in word_pattern(_MARKED).findall(composed)
    ]


@functools.lru_cache(maxsize=4_096)
def _script(character: str) -> str:
    name = unicodedata.name(character, "").partition(" ")[0]
    return _SCRIPTS.get(name, "other")
