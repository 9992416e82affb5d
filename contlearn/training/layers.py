"""Which layer of an encoder a parameter belongs to."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["depth_of"]

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")


def depth_of(name: str) -> int | None:
    """Give the layer that a parameter belongs to, or None for one outside the layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None
