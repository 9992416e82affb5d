"""Errors as clients may see them: without where things lie on the server's machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final

from contlearn.errors import ContlearnError

__all__ = ["without_places"]

# An absolute path of two parts at least; neither a part of a web address nor of a relative path.
_PATH: Final = re.compile(r"(?<![\w:/.~-])~?/(?:[^\s/'\",;()]+/)+[^\s/'\",;()]*")


def without_places(error: ContlearnError, known: Iterable[Path] = ()) -> ContlearnError:
    """Leave of every path its last name.

    Args:
        error: What happened; the log keeps it whole.
        known: Folders that it may name; their paths are found also where they hold blanks.
    """
    folders = [str(above) for path in known for above in (path, *path.parents)]
    folders = [folder for folder in folders if len(PurePath(folder).parts) > 1]

    def clean(text: str) -> str:
        if text.startswith("/") and not set(text) & set(":,\n"):
            return PurePath(text).name or "…"  # nothing but a path, whatever blanks are in it
        for folder in folders:
            text = text.replace(f"{folder}/", "").replace(folder, PurePath(folder).name)
        return _PATH.sub(lambda found: PurePath(found[0]).name or "…", text)

    return type(error)(
        clean(error.what),
        where=None if error.where is None else clean(error.where),
        hint=None if error.hint is None else clean(error.hint),
    )
