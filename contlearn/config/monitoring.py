"""[monitoring]: metrics and the prediction log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from contlearn.config.base import Duration, Section

__all__ = ["MonitoringConfig", "split_slice"]


def split_slice(pattern: str) -> tuple[Literal["text", "language", "source"], Any]:
    """Read what says which rows are in a slice: how they are told, and a name or an expression.

    The expression is one of the package `regex`, which stops in time where `re` cannot be stopped.

    Raises:
        ValueError: When the expression cannot be read.
    """
    kind, _, rest = pattern.partition(":")
    if kind == "language":
        return "language", rest
    import regex

    try:
        if kind == "source":
            return "source", regex.compile(rest, regex.IGNORECASE)
        return "text", regex.compile(pattern, regex.IGNORECASE)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


class MonitoringConfig(Section):
    """[monitoring]: metrics and the prediction log."""

    host: str = Field(
        "127.0.0.1", description="The address at which the daemon shows metrics and health."
    )
    port: int = Field(9108, ge=0, le=65535, description="Its port; 0: any that is free.")
    log_text: bool = Field(
        False,
        description="Whether the prediction log holds the texts themselves; `suggest` and "
        "explanations of drift by words need them.",
    )
    log_predictions: bool = Field(
        True, description="Whether predictions are logged at all; drift and estimates need it."
    )
    log_bytes: int = Field(
        50_000_000, ge=10_000, description="Bytes of the prediction log; the oldest parts go first."
    )
    log_age: Duration = Field(
        30 * 86400.0,
        description="Age at which logged predictions go, in seconds or as 30d.",
    )
    drift_window: int = Field(
        500, ge=20, description="How many of the newest predictions are looked at for drift."
    )
    drift_threshold: float = Field(
        0.2,
        gt=0.0,
        description="The population stability index of arriving labels from which on they have "
        "drifted.",
    )
    drift_reference: int = Field(
        2_000,
        ge=200,
        description="How many first answers of a version are what later ones are compared with.",
    )
    drift_level: float = Field(
        0.01,
        gt=0.0,
        lt=0.5,
        description="The share of windows without drift, 0 to 1, in which all detectors together "
        "may alarm.",
    )
    detectors: tuple[str, ...] = Field(
        (), description="The drift detectors that are used, by name; empty: all."
    )
    accuracy_margin: float = Field(
        0.05,
        ge=0.0,
        lt=1.0,
        description="How far accuracy, 0 to 1, may fall below what the version was promoted with "
        "before it counts as a drop.",
    )
    check_interval: Duration = Field(
        900.0,
        description="Time between two looks of the daemon at drift and accuracy, in seconds or as"
        " 15m.",
    )
    doubt_records: int = Field(
        500,
        ge=0,
        description="How many new records of a file the champion looks at for doubtful labels "
        "when they are taken in; 0: none.",
    )
    slices: Mapping[str, str] = Field(
        {},
        description="Parts of the texts that are looked at apart: a name, and a regular "
        "expression that the text matches, language:NAME, or source:EXPRESSION for "
        "the file it came from.",
    )

    @field_validator("slices")
    @classmethod
    def _patterns(cls, slices: Mapping[str, str]) -> Mapping[str, str]:
        for name, pattern in slices.items():
            try:
                split_slice(pattern)
            except ValueError as error:
                raise ValueError(f"the pattern of the slice {name!r} is wrong: {error}") from error
        return slices
