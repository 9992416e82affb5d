"""When one label's name is probably another's, written wrong: `card_arival` and `card_arrival`.

The rule is narrow, because a data set's own labels must never fall under it: `label_1` and
`label_2`, `B-loc` and `I-loc`, `no` and `on`, `time` and `timer` are all different names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Final

from contlearn.tasks.rows import label_skeleton

__all__ = ["NearNames", "is_near", "written_alike"]

# A word must have so many letters for one of them to be a slip: time and timer are two words. In a
# name of several words shorter ones may be misspelt too, as long as the whole name is long.
_LEAST_LETTERS: Final = 6
_LEAST_IN_LONG: Final = 4
_LONG: Final = 9
# Longer names are compared as wholes only: each letter more costs an entry of the index.
_MOST_INDEXED: Final = 64
# Blanks, hyphens and underscores between two signs of which one is a letter at least.
_BETWEEN: Final = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=[^\W_])")
_WORDS: Final = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
# cardArrival is two words.
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@functools.lru_cache(maxsize=65_536)
def written_alike(label: str) -> str:
    """Give a form that is equal for names that differ only in how words are put together.

    Case, blanks, hyphens and underscores between words do not count; a sign at an end does, and so
    does one between two numbers.

    Example:
        >>> written_alike("Card-Arrival") == written_alike("card_arrival")
        True
        >>> written_alike("1-1") == written_alike("11"), written_alike("A-") == written_alike("A")
        (False, False)
    """
    return _BETWEEN.sub("", label_skeleton(label))


def is_near(first: str, second: str) -> bool:
    """Say whether two names are one, but for how it is put together or one letter in a long word.

    One letter is too many, missing, another, or has changed places with its neighbour. Numbers and
    other signs must be equal, first letters too: people seldom mistake those, and `import` and
    `export`, `legal` and `illegal` differ there. Another last letter makes another word, as in
    `employer` and `employee`, `sectiona` and `sectionb`. In scripts without upper and lower case
    one sign says more than a letter, so only equal names are one there.

    Source: Damerau, "A technique for computer detection and correction of spelling errors", 1964
    (four of five misspellings are one such change); Pollock and Zamora, "Automatic spelling
    correction in scientific and scholarly text", 1984 (few are in the first letter).
    Example:
        >>> is_near("card_arival", "card_arrival"), is_near("card_arrival", "cardArrival")
        (True, True)
        >>> is_near("label_1", "label_2"), is_near("time", "timer"), is_near("on", "no")
        (False, False, False)
    """
    if first == second:
        return False
    if written_alike(first) == written_alike(second):
        return True
    mine, theirs = _words(_HUMP.sub(" ", first)), _words(_HUMP.sub(" ", second))
    if len(mine) != len(theirs):
        mine, theirs = _words(first), _words(second)  # a capital may be what is missing
    if len(mine) != len(theirs):
        return False
    different = [(a, b) for a, b in zip(mine, theirs, strict=True) if a != b]
    letters = max(sum(map(len, mine)), sum(map(len, theirs)))
    return len(different) == 1 and _is_slip(*different[0], letters)


@functools.lru_cache(maxsize=65_536)
def _words(label: str) -> tuple[str, ...]:
    return tuple(_WORDS.findall(label_skeleton(label)))


def _is_slip(a: str, b: str, letters: int) -> bool:
    """Say whether two words are one change of a letter apart, in a name of so many letters."""
    if not (a.islower() and b.islower() and a.isalpha() and b.isalpha()) or a[0] != b[0]:
        return False
    least = _LEAST_IN_LONG if letters >= _LONG else _LEAST_LETTERS
    short, long = sorted((a, b), key=len)
    if len(long) < least or len(long) - len(short) > 1:
        return False
    at = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    if short[at + 1 :] == long[at + 1 :]:
        return at < len(long) - 1
    swapped = short[at : at + 2][::-1] == long[at : at + 2]
    return swapped and short[at + 2 :] == long[at + 2 :]


class NearNames:
    """Finds the names that are near to one among many, without comparing it with each.

    Two names one change apart have a form in common that lacks one letter of each.

    Source: Mor and Fraenkel, "A hash code method for detecting and correcting spelling errors",
    1982 (the neighbourhood of deletions).

    Args:
        names: Among which.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._by_form: dict[int, list[str]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name."""
        for form in set(_forms(name)):
            self._by_form.setdefault(form, []).append(name)

    def find(self, name: str) -> list[str]:
        """Give the names that are near, sorted."""
        found: set[str] = set()
        for form in _forms(name):
            found.update(self._by_form.get(form, ()))
        return sorted(other for other in found if is_near(name, other))


def _forms(name: str) -> Iterator[int]:
    yield hash(written_alike(name))
    # A slip is looked for in words alone, whatever stands between or before them.
    letters = "".join(_words(name))
    yield hash(letters)
    if len(letters) <= _MOST_INDEXED:
        for at in range(len(letters)):
            yield hash(letters[:at] + letters[at + 1 :])
