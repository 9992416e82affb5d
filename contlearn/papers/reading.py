"""How papers are read: parsed whole, or told to be damaged with their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from contlearn.workspace import damaged, read_json

__all__ = ["read_paper"]

Paper = TypeVar("Paper")


def read_paper(path: Path, parse: Callable[[Mapping[str, Any]], Paper]) -> Paper:
    """Read a JSON object and parse it.

    Raises:
        StorageError: When it is missing or damaged.
    """
    value = read_json(path)
    try:
        return parse(value)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, repr(error)) from error
