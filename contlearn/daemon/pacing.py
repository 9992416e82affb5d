"""How often, and how long to wait after failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from contlearn.catalog.cycles import list_cycles
from contlearn.context import Context
from contlearn.interfaces import Clock

__all__ = ["BackOff", "Every"]


@dataclass
class Every:
    """True at the first call, and then when `seconds` have passed since the last true one.

    Example:
        >>> from contlearn.testing import FakeClock
        >>> clock = FakeClock()
        >>> every = Every(clock, 10)
        >>> every(), every(), clock.sleep(10), every()
        (True, False, None, True)
    """

    clock: Clock
    seconds: float
    _at: float | None = field(default=None, init=False)

    def is_due(self) -> bool:
        """Say whether a call would be true."""
        return self._at is None or self.clock.monotonic() - self._at >= self.seconds

    def __call__(self) -> bool:
        """Say whether it is time, and if so begin to wait again."""
        if not self.is_due():
            return False
        self._at = self.clock.monotonic()
        return True

    def now(self) -> None:
        """Make the next call true."""
        self._at = None


class BackOff:
    """Doubles the wait with each failure in a row, up to a cap; survives restarts.

    Args:
        context: Its configuration says how long, its catalog what failed before a restart.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.failures = 0
        self._until = float("-inf")

    def failed(self) -> float:
        """Count a failure; give how many seconds to wait."""
        self.failures += 1
        wait = self._wait()
        self._until = self.context.clock.monotonic() + wait
        return wait

    def clear(self) -> None:
        """Forget the failures."""
        self.failures = 0
        self._until = float("-inf")

    def left(self) -> float:
        """Give how many seconds are left to wait; 0 when none."""
        return max(0.0, self._until - self.context.clock.monotonic())

    def restore(self) -> None:
        """Take up the failures in a row that the catalog shows, and the rest of the wait."""
        with self.context.catalog.read() as connection:
            rows = list_cycles(connection, 20)
        failed = 0
        for row in rows:
            if row.outcome != "failed" or (row.numbers or {}).get("apart"):
                break  # what failed then was set apart, and stands in nobody's way
            failed += 1
        self.failures = failed
        if not failed or rows[0].ended_at is None:
            return
        clock = self.context.clock
        passed = (clock.now() - datetime.fromisoformat(rows[0].ended_at)).total_seconds()
        # The clock may have been set: never wait longer than the wait itself.
        left = min(self._wait(), max(0.0, self._wait() - passed))
        self._until = clock.monotonic() + left

    def _wait(self) -> float:
        settings = self.context.config.daemon
        doubled = settings.retry_seconds * 2 ** min(self.failures - 1, 30)
        return float(min(doubled, settings.max_retry_seconds))
