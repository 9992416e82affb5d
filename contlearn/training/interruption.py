"""Ending on request: SIGTERM lets a training save itself at its next step; then the process ends.

Outside of a training the process ends at once; the stages before are marked as done, and the one
that was cut is done again.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

__all__ = ["EXIT_CODE", "deferred", "end_if_requested", "install", "is_requested"]

EXIT_CODE: Final = 128 + signal.SIGTERM


class _Request:
    """Whether the end was asked for, and whether a training is on its way to save."""

    asked = False
    saving = False


def install() -> None:
    """Answer SIGTERM from now on; called once, by the process that trains."""
    signal.signal(signal.SIGTERM, _ask)


def is_requested() -> bool:
    """Say whether the end was asked for."""
    return _Request.asked


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While the block runs it ends itself, by `end_if_requested`, when its state is saved."""
    _Request.saving = True
    try:
        yield
    finally:
        _Request.saving = False


def end_if_requested() -> None:
    """End the process if that was asked for; call it when everything is saved."""
    if _Request.asked:
        raise SystemExit(EXIT_CODE)


def _ask(_number: int, _frame: FrameType | None) -> None:
    _Request.asked = True
    if not _Request.saving:
        raise SystemExit(EXIT_CODE)
