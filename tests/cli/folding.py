"""The output of a command with its figures folded, so that it can be compared as a whole."""

from __future__ import annotations

import re


def folded(text: str) -> str:
    """Put a sign for each figure with a point or a per cent, and one blank for several."""
    text = re.sub(r"-?\d+(\.\d+)?(e-\d+)?( %|%)", "#%", text)
    text = re.sub(r"-?\d+\.\d+(e-\d+)?|\d+e-\d+", "#", text)
    return "".join(re.sub(r" {2,}", "  ", line).rstrip() + "\n" for line in text.splitlines())
