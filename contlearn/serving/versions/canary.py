"""Judging a canary beside the champion: it is stopped when it fails more, or takes longer."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

__all__ = ["CanaryWatch", "tail_probability"]

# One wrong stop in ten thousand looks at a canary that fails as often as the champion.
_ALPHA: Final = 1e-4
# The champion is never credited with fewer failures than this.
_LEAST_RATE: Final = 0.001
_WINDOW: Final = 500
_LEAST_TIMES: Final = 100
# Differences below this are noise of the machine, whatever their ratio.
_LEAST_SECONDS: Final = 0.002


def tail_probability(failures: int, requests: int, rate: float) -> float:
    """Give the probability of at least so many failures among so many requests.

    Source: the binomial distribution's upper tail.
    Example:
        >>> tail_probability(2, 2, 0.1)
        0.01
    """
    below = 0.0
    for k in range(failures):
        below += math.comb(requests, k) * rate**k * (1.0 - rate) ** (requests - k)
    return max(0.0, 1.0 - below)


@dataclass
class _Side:
    outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def median(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[len(ordered) // 2]


@dataclass
class CanaryWatch:
    """Compares the last requests of both.

    Args:
        max_latency_ratio: How many times the champion's median time a text may take.
    """

    max_latency_ratio: float = 2.0
    _champion: _Side = field(default_factory=_Side, init=False)
    _canary: _Side = field(default_factory=_Side, init=False)

    def note(self, *, is_canary: bool, failed: bool, seconds_per_text: float | None) -> None:
        """Note one request."""
        side = self._canary if is_canary else self._champion
        side.outcomes.append(failed)
        if seconds_per_text is not None and not failed:
            side.seconds.append(seconds_per_text)

    def verdict(self) -> str | None:
        """Say why the canary should stop: errors or latency; None while it may go on."""
        canary, champion = self._canary, self._champion
        failures, requests = sum(canary.outcomes), len(canary.outcomes)
        if failures:
            rate = (sum(champion.outcomes) + 0.5) / (len(champion.outcomes) + 1.0)
            usual = max(_LEAST_RATE, min(rate, 0.5) if champion.outcomes else _LEAST_RATE)
            if tail_probability(failures, requests, usual) < _ALPHA:
                return "errors"
        if min(len(canary.seconds), len(champion.seconds)) >= _LEAST_TIMES:
            slow, usual = canary.median(), champion.median()
            if slow > self.max_latency_ratio * usual and slow - usual > _LEAST_SECONDS:
                return "latency"
        return None

    def facts(self) -> dict[str, int]:
        """Give the counts of the window."""
        return {
            "requests": len(self._canary.outcomes),
            "failed": sum(self._canary.outcomes),
        }
