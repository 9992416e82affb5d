"""[gate]: what a challenger must show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["GateConfig"]


class GateConfig(Section):
    """[gate]: what a challenger must show."""

    metric: str = Field(
        "",
        description="The measure that rules compare; empty: the task's own (accuracy for texts, "
        "F1 of entities).",
    )
    margin: float = Field(
        0.03,
        gt=0.0,
        allow_inf_nan=False,
        description="How much of the metric may be lost on what was known: a share from 0 to 1, or "
        "in the metric's unit.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1.0,
        description="How sure the rules must be; 0.95 lets at most one harmful challenger in "
        "twenty pass.",
    )
    resamples: int = Field(
        2000,
        ge=200,
        description="Draws of the paired bootstrap; more make its bounds steadier and deciding "
        "slower.",
    )
    min_evidence_rows: int = Field(
        300,
        ge=1,
        description="Old held-out rows below which `short_evidence` decides instead of the "
        "bootstrap.",
    )
    short_evidence: Literal["chance", "point", "refuse"] = Field(
        "chance",
        description="With too few old rows: `chance` goes by the chance of a true loss of `margin` "
        "(at most `chance_of_loss`), `point` by the observed difference and warns, `refuse` "
        "refuses.",
    )
    chance_of_loss: float = Field(
        0.3,
        gt=0.0,
        lt=1.0,
        description="With too few old rows: how probable it may be, given what was seen, that the "
        "challenger is truly worse by `margin` or more.",
    )
    approval: Literal["automatic", "manual"] = Field(
        "automatic",
        description="Whether a challenger that passes is promoted, or waits for `contlearn "
        "promote`.",
    )
    rules: tuple[str, ...] = Field(
        (
            "minimum-evidence",
            "no-regression",
            "no-harm",
            "gain",
            "worth",
            "no-erosion",
            "floor",
        ),
        description="The rules that are asked, by name; all must pass.",
    )
    rule_options: Mapping[str, Mapping[str, Any]] = Field(
        {}, description="Options of rules, each under its rule's name."
    )
    min_gain: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="How much must be won on the new rows, significantly: a share, or in the "
        "metric's unit; 0: only a loss beyond `margin` counts against it.",
    )
    new_weight: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="How much the new rows weigh where `worth` takes new and old ones together; "
        "0.5: as much as all old ones.",
    )
    worth_confidence: float = Field(
        0.73,
        ge=0.5,
        lt=1.0,
        description="How probable it must be that the challenger is better over new and old rows "
        "together; below that the champion stays and the records are kept.",
    )
    reserve_rows: int = Field(
        5000,
        ge=1,
        description="Held-out rows of earlier experiences that are kept and scored at most, drawn"
        " evenly.",
    )
