"""Files of secrets that are taken up again when they change, without a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

__all__ = ["ChangingFiles"]

_Stamp: TypeAlias = "tuple[tuple[int, ...] | None, ...]"


@dataclass
class ChangingFiles:
    """Says whether files were replaced or written to; links are followed, as mounts have them.

    Args:
        paths: The files.
    """

    paths: Sequence[Path]
    _stamp: _Stamp = field(init=False)

    def __post_init__(self) -> None:
        self._stamp = self._look()

    def have_changed(self) -> bool:
        """Say whether any is another than when this was last asked."""
        before, self._stamp = self._stamp, self._look()
        return self._stamp != before

    def _look(self) -> _Stamp:
        return tuple(map(_facts, self.paths))


def _facts(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
