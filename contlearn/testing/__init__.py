"""The public kit for those who write plugins: checks, a fake clock, a tiny model."""

from __future__ import annotations

from contlearn.testing.checks import check_all, check_class
from contlearn.testing.clock import FakeClock
from contlearn.testing.models import write_tiny_model
from contlearn.testing.strategies import check_strategy
from contlearn.testing.tasks import check_task

__all__ = [
    "FakeClock",
    "check_all",
    "check_class",
    "check_strategy",
    "check_task",
    "write_tiny_model",
]
