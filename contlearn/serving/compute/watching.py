"""Telling a process that works from one that stands still: by the processor time it takes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Final

from contlearn.errors import ServingError

__all__ = ["LOOK_SECONDS", "STILL_SECONDS", "ProcessWatch", "Silent", "WorkerSilent"]

# Whoever waits for another process looks at it this often.
LOOK_SECONDS: Final = 0.25
# A process that owes an answer and took no processor time for so long is stopped or stuck.
STILL_SECONDS: Final = 2.0


class Silent(OSError):
    """A process does not answer, though it has not ended."""


class WorkerSilent(ServingError):
    """Worker after worker did not answer to a request."""


@dataclass(slots=True)
class ProcessWatch:
    """Gives up on a process that owes an answer; asked once a look.

    Looks are counted, not seconds: a machine that slept as a whole makes nobody guilty.

    Args:
        pid: The process.
        still_seconds: So long without processor time is too long.
        most_seconds: So long is too long, however busy it is.
    """

    pid: int
    still_seconds: float = STILL_SECONDS
    most_seconds: float = math.inf
    _looks: int = field(default=0, init=False)
    _still: int = field(default=0, init=False)
    _used: int | None = field(default=None, init=False)

    def __call__(self) -> None:
        """Look at the process.

        Raises:
            Silent: When it is too long.
        """
        used = _processor_time(self.pid)
        self._looks += 1
        self._still = self._still + 1 if used is not None and used == self._used else 0
        self._used = used
        if self._still * LOOK_SECONDS >= self.still_seconds:
            raise Silent(f"it took no processor time for {self.still_seconds:g} s")
        if self._looks * LOOK_SECONDS >= self.most_seconds:
            raise Silent(f"it did not answer within {self.most_seconds:g} s")


def _processor_time(pid: int) -> int | None:
    """Give the nanoseconds a process has computed, its threads included; None if nobody can say.

    Source: clock_getcpuclockid(3); Linux numbers the clock of a process by its id.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, OverflowError):
        return None
