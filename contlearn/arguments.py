"""Checks of what callers of the library hand over, where Python itself would take it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from contlearn.errors import UsageError

__all__ = ["require_several"]


def require_several(values: object, *, what: str, where: str) -> None:
    """Refuse one value where several are meant: its letters or keys would be taken one by one.

    Args:
        values: What was given.
        what: What each of several would be, for example "text".
        where: The argument, for the error.
    Raises:
        UsageError: When it is one text, path or object.
    Example:
        >>> require_several(["hey"], what="text", where="texts")
    """
    if isinstance(values, str | bytes | PathLike | Mapping):
        raise UsageError(
            f"One {what} was given where a list of them belongs: {repr(values)[:60]}.",
            where=where,
            hint="Put it into a list: [value].",
        )
