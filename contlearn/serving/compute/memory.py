"""Keeping a process that loads model after model as small as it was."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

__all__ = ["keep_memory_together", "quiet_collector", "release_memory"]

# Source: mallopt(3).
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_memory_together() -> None:
    """Let glibc give large blocks back at once, and not keep a heap for every thread.

    Each version is loaded by a thread of its own; with a heap for each, what the old ones used is
    never reused, and the process grows with every promotion.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 2)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def quiet_collector() -> None:
    """Spare what lives as long as the process from the garbage collector.

    A full collection looks at every object of every imported module and holds up all threads for
    tens of milliseconds. After the first load they are frozen out of it.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Give what the old version used back to the system; glibc keeps it otherwise."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
