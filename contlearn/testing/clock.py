"""A clock that a test moves by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """Time that stands still until it is told to move; sleeping moves it.

    Example:
        >>> clock = FakeClock()
        >>> clock.sleep(60)
        >>> clock.now().isoformat()
        '2030-01-01T00:01:00+00:00'
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Give the moment it stands at."""
        return self._now

    def monotonic(self) -> float:
        """Give the seconds it was moved on."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator might; monotonic time stays."""
        self._now += timedelta(seconds=seconds)
