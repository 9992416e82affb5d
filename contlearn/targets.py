"""Targets as values of JSON: what a record is to teach, written down and read again.

In memory a target is a text, a number, or tuples and mappings of those, so that it can be compared
and never changes; as JSON tuples are lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contlearn.types import Target

__all__ = ["target_from_json", "target_to_json"]


def target_to_json(target: Target) -> Any:
    """Give a target with lists for tuples.

    Example:
        >>> target_to_json(("B-city", "O"))
        ['B-city', 'O']
    """
    return _written(target)


def target_from_json(value: Any) -> Target:
    """Read what `target_to_json` gave.

    Example:
        >>> target_from_json(["B-city", "O"])
        ('B-city', 'O')
    """
    target: Target = _read(value)
    return target


def _written(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_written(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _written(item) for name, item in value.items()}
    return value


def _read(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_read, value))
    if isinstance(value, Mapping):
        return {str(name): _read(item) for name, item in value.items()}
    return value
