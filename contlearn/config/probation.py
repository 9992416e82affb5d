"""[probation]: how a new champion is watched, and what takes it back by itself."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Duration, Section

__all__ = ["ProbationConfig"]


class ProbationConfig(Section):
    """[probation]: how a new champion is watched, and what takes it back by itself."""

    window: Duration = Field(
        1800.0,
        description="How long a new champion is watched while the daemon runs, in seconds or as "
        "30m; 0: not at all.",
    )
    server: str = Field(
        "",
        description="The address of the server whose metrics are compared, such as "
        "http://10.0.0.5:8080; empty: `serving.host` and `serving.port`.",
    )
    min_requests: int = Field(
        200,
        ge=1,
        description="Requests that each of the two versions must have answered before errors and "
        "latency are compared.",
    )
    max_error_increase: float = Field(
        0.02,
        gt=0.0,
        lt=1.0,
        description="How much the share of failed requests may rise, 0 to 1, before the former "
        "champion comes back.",
    )
    max_latency_ratio: float = Field(
        2.0,
        gt=1.0,
        description="How many times as long as before 95 % of the requests may take.",
    )
    min_latency_increase: Duration = Field(
        0.05,
        description="A rise of latency below so many seconds never counts, whatever its ratio.",
    )
    min_labels: int = Field(
        30,
        ge=5,
        description="Records labelled since the promotion that it takes to compare answers.",
    )
    max_flips: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="The share of answers, 0 to 1, that may turn from right to wrong whatever was"
        " won; 0: only the balance counts.",
    )
    confidence: float = Field(
        0.99,
        gt=0.5,
        lt=1.0,
        description="How sure a worsening must be, over all looks together, before it leads back.",
    )
    check_interval: Duration = Field(
        30.0, description="Time between two comparisons, in seconds or as 30s."
    )
