"""[replay]: which past records are kept, and how many are shown again."""

from __future__ import annotations

from pydantic import Field

from contlearn.config.base import Section

__all__ = ["ReplayConfig"]


class ReplayConfig(Section):
    """[replay]: which past records are kept, and how many are shown again."""

    policy: str = Field(
        "class-balanced",
        description="Which past records are kept: class-balanced, reservoir, herding, uncertainty, "
        "loss-aware, or one of a plugin.",
    )
    capacity_records: int = Field(
        2000, ge=0, description="How many past records the buffer keeps; 0: none."
    )
    capacity_bytes: int = Field(
        64_000_000, ge=0, description="Bytes of text that the buffer keeps at most."
    )
    records_per_label: int = Field(
        0, ge=0, description="Records kept of one label at most; 0: no bound of its own."
    )
    ratio: float = Field(
        0.5, ge=0.0, description="Past records shown for each new record in an epoch."
    )
