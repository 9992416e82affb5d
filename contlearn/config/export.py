"""[export]: the model that is served."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["ExportConfig"]


class ExportConfig(Section):
    """[export]: the model that is served."""

    precision: Literal["auto", "fp32", "int8", "int8-static"] = Field(
        "auto",
        description="How weights are stored and multiplied: `auto` takes int8 where it agrees "
        "well enough and is quicker, else fp32.",
    )
    min_label_agreement: float = Field(
        0.99,
        gt=0.0,
        le=1.0,
        description="The share of held-out rows, 0 to 1, that an int8 model must answer as the "
        "trained one.",
    )
    max_logit_difference: float = Field(
        1e-3,
        gt=0.0,
        description="The largest difference of a score between the trained model and its fp32 "
        "graph, as a share of the spread of the trained model's scores: their standard deviation "
        "over all rows compared, at least 1. The labels must all be the same.",
    )
