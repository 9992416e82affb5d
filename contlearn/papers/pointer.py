"""`current.json` of a serving directory: which version is served. Its rename is a promotion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contlearn.errors import StorageError

__all__ = ["POINTER", "Pointer", "read_pointer"]

POINTER: Final = "current.json"
_HINT: Final = (
    "The next `contlearn update`, `promote` or `rollback` writes it again from the journal."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Names the champion.

    Args:
        version: What is served.
        epoch: How many changes of the champion there have been.
        sha256: Of the manifest that was promoted.
        at: When it was promoted.
    """

    version: int
    epoch: int
    sha256: str | None = None
    at: str | None = None

    @classmethod
    def from_json(cls, value: Any) -> Pointer:
        """Read what the file holds.

        Raises:
            ValueError: When it names no version.
        """
        if not isinstance(value, dict) or not all(
            isinstance(value.get(name), int) for name in ("version", "epoch")
        ):
            raise ValueError("it does not name a version")
        return cls(
            version=value["version"],
            epoch=value["epoch"],
            sha256=value.get("sha256"),
            at=value.get("at"),
        )

    def to_json(self) -> dict[str, Any]:
        """Give what the file holds."""
        said = {"sha256": self.sha256, "at": self.at}
        known = {name: text for name, text in said.items() if text is not None}
        return {"version": self.version, "epoch": self.epoch, **known}


def read_pointer(folder: Path) -> Pointer | None:
    """Read the pointer of a serving directory; None before the first promotion.

    Raises:
        StorageError: When it is damaged or may not be read.
    """
    path = folder / POINTER
    try:
        return Pointer.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"{POINTER} cannot be read: {error.strerror}.",
            where=str(path),
            hint="Give this user the right to read it, or check the disk.",
        ) from error
    except ValueError as error:
        raise StorageError(
            f"{POINTER} cannot be read, it is damaged: {error}.", where=str(path), hint=_HINT
        ) from error
