"""What all sections share: unknown keys are refused, durations and sizes are read."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["Duration", "Section", "Size", "parse_duration", "parse_size"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_duration(value: object) -> float:
    """Turn "90s", "5m", "1h", "7d" or a number of seconds into seconds.

    Example:
        >>> parse_duration("1h")
        3600.0
    """
    if isinstance(value, bool):
        raise ValueError("expected a duration such as 90s, 5m, 1h or 7d")
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", str(value))
        if match is None:
            raise ValueError("expected a duration such as 90s, 5m, 1h or 7d")
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if seconds < 0:
        raise ValueError("a duration cannot be negative")
    return seconds


def parse_size(value: object) -> int:
    """Turn "500MB", "2.5 GB" or a number of bytes into bytes, in powers of ten.

    Example:
        >>> parse_size("1.5 GB")
        1500000000
    """
    if isinstance(value, bool):
        raise ValueError("expected a size such as 500MB or 2GB")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(value).lower())
    if match is None:
        raise ValueError("expected a size such as 500MB or 2GB")
    return int(float(match[1]) * _BYTES[match[2]])


Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


class Section(BaseModel):
    """A part of the configuration; a key it does not know is an error.

    Every key has a description of one or two sentences: its effect, its unit, what its default or
    a special value means. `contlearn config explain`, `config schema` and docs/configuration.md
    are made from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
