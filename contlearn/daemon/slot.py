"""One update at a time on a host, first come first served."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contlearn.processes.children import MustStop

__all__ = ["UpdateSlot", "default_host_lock"]

_POLL_SECONDS: Final = 0.5


def default_host_lock() -> Path:
    """Give the file that all daemons of this user on this host share."""
    return Path(tempfile.gettempdir()) / f"contlearn-{os.getuid()}.lock"


class UpdateSlot:
    """The right to run an update. Who asked first has it first, so no workspace starves another.

    Within this process a queue decides, between processes of the host the lock on a file. The lock
    goes with the process, however it ends.

    Args:
        path: The file; None leaves other processes out of account.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._queue: deque[str] = deque()
        self._holder: str | None = None

    @property
    def holder(self) -> str | None:
        """Who has it in this process."""
        return self._holder

    def waiting(self) -> tuple[str, ...]:
        """List who waits in this process, the next one first."""
        with self._changed:
            return tuple(self._queue)

    @contextlib.contextmanager
    def turn(self, who: str, must_stop: MustStop) -> Iterator[bool]:
        """Wait for the turn and hold it while the block runs.

        Yields:
            False when it must stop first: the block must not update then.
        """
        with self._changed:
            self._queue.append(who)
        descriptor: int | None = None
        try:
            with self._changed:
                while self._holder is not None or self._queue[0] != who:
                    if must_stop():
                        break
                    self._changed.wait(_POLL_SECONDS)
                mine = self._holder is None and self._queue[0] == who and not must_stop()
                if mine:
                    self._holder = who
            if mine and self.path is not None:
                descriptor = self._lock(must_stop)
                mine = descriptor is not None
            with self._changed:
                self._queue.remove(who)
            yield mine
        finally:
            if descriptor is not None:
                os.close(descriptor)
            with self._changed:
                with contextlib.suppress(ValueError):
                    self._queue.remove(who)
                if self._holder == who:
                    self._holder = None
                self._changed.notify_all()

    def _lock(self, must_stop: MustStop) -> int | None:
        descriptor = os.open(str(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        pause = threading.Event()
        while not must_stop():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pause.wait(_POLL_SECONDS)
            else:
                return descriptor
        os.close(descriptor)
        return None
